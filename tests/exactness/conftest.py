import pytest


@pytest.fixture(autouse=True)
def drafting(draft_every_round):
    """These tests are about drafts: all rounds have one."""
