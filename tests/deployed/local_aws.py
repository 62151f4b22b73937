"""Starts the local AWS with one thing put right: AWS has no action sqs:SendMessageBatch, sqs:SendMessage covers it."""

from ministack.app import main
from ministack.core import iam_actions

_extract = iam_actions.extract_iam_action


def _as_on_aws(*request):
    action = _extract(*request)
    return action.removesuffix("Batch") if action and action.startswith("sqs:") else action


iam_actions.extract_iam_action = _as_on_aws
main()
