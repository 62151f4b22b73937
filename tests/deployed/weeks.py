"""Weeks, counted back from the moment at which the tests began.

A run may begin in one week and end in the next, and no week may become due in the midst of it. So the tests choose how
long a week takes to settle: the last one has been due for an hour, and the next will be in a week less an hour.
"""

import datetime

_FIRST_HOUR = datetime.timedelta(hours=1)
_HAS_PASSED = datetime.datetime.now(datetime.timezone.utc) - _FIRST_HOUR
_THIS_MONDAY = _HAS_PASSED.date() - datetime.timedelta(days=_HAS_PASSED.weekday())

SETTLE_MINUTES = (_HAS_PASSED.weekday() * 24 + _HAS_PASSED.hour) * 60 + _HAS_PASSED.minute


def monday(weeks_ago):
    """The first day of a week; 1 is the last that is due."""
    return _THIS_MONDAY - datetime.timedelta(weeks=weeks_ago)


def weeks(*ago):
    return [str(monday(n)) for n in ago]
