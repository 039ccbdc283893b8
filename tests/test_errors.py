import re

from bolid import errors


def test_every_class_has_its_own_exit_code():
    codes = [error.exit_code for error in errors.error_classes()]
    assert len(codes) == len(set(codes))
    assert 0 not in codes
    assert 130 not in codes


def test_the_tree_in_the_module_docstring_is_the_tree_of_the_code():
    drawn = dict(re.findall(r"([A-Z]\w+Error)\s+(\d+)", errors.__doc__ or ""))
    assert drawn == {error.__name__: str(error.exit_code) for error in errors.error_classes()}


def test_a_missing_extra_is_one_line_that_says_what_to_install():
    message = str(errors.MissingExtraError("torch", "train"))
    assert "pip install 'bolid[train]'" in message
    assert "\n" not in message
