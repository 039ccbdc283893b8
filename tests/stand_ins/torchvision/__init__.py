"""What ultralytics asks of torchvision to find poses, for tests of stock ultralytics on machines without torchvision.

ultralytics reads the version of the installed distribution (the dist-info folder beside this one) and calls one
function, which it also has itself. Used only in subprocesses whose `PYTHONPATH` names the folder above.
"""

from types import SimpleNamespace


def _nms(boxes, scores, threshold):
    from ultralytics.utils.nms import TorchNMS

    return TorchNMS.nms(boxes, scores, threshold)


ops = SimpleNamespace(nms=_nms)
