"""Weeks, counted back from the moment at which the tests began.

A run may begin in one week and end in the next, and no week may become due in the midst of it. So the tests choose how
long a week takes to settle: the last one has been due for an hour, and the next will be in a week less an hour.
"""

import datetime

_AN_HOUR_AGO = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
_MONDAY = _AN_HOUR_AGO.date() - datetime.timedelta(days=_AN_HOUR_AGO.weekday())

# An hour ago it was so long after the week's end.
SETTLE_MINUTES = (_AN_HOUR_AGO.weekday() * 24 + _AN_HOUR_AGO.hour) * 60 + _AN_HOUR_AGO.minute


def monday(weeks_ago):
    """The first day of a week; 1 is the last that is due."""
    return _MONDAY - datetime.timedelta(weeks=weeks_ago)


def weeks(*ago):
    return [str(monday(n)) for n in ago]
