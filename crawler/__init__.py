"""Fetch photo sets: exact after a crash, polite, and the pixel size is known before a photo is.

A run from its begin to its end, each file one idea:

    crawl.py         a whole run: options, wiring, what makes a run an error
    restart.py       what a run makes of what the last one left
    schedule.py      which job runs when; work.py: which row is next, and what follows a failure
    page_work.py     one page from claim to end; photo_work.py: one photo
    report.py, account.py, table.py   progress, the summary, images.parquet

What is to be done and what was:

    frontier.py      crawl.sqlite: every page, identity and photo with its state
    schema.py, rows.py, host_book.py   its tables, its rows, what it remembers of hosts
    outcome.py       Rejection, Failure, Postponed: how an address does not become a photo
    suppress.py      suppress.txt; url_list.py: lists of addresses
    status.py, photo_states.py   how a crawl stands, seen from outside

The network:

    fetch.py         one request: redirects, caps, time-outs; receive.py: the bytes of one photo
    hosts.py         the gate before each request: robots.py, tdmrep.py, politeness.py (pace, Retry-After)
    guard.py         no private network; address.py: spellings of addresses, and which are public

Pages and photos:

    definition.py    a site as data (sites/*.toml); site.py: bound to a host; sites_check.py: tried on a page
    extract.py       what a page shows; optout.py: who does not want to be collected
    probe.py         pixel size from the first bytes; whole.py: whether the last ones came; store.py: names on disk
"""
