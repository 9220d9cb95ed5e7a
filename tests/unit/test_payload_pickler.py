"""What plain pickle is trusted with, and what it is not."""

from mirai_executor._payload.common.hooks import REDUCERS
from mirai_executor._payload.common.importable import WITH_CARE
from mirai_executor._payload.common.reducers import _OWN


def test_all_types_that_need_care_are_defined_where_it_is_looked_for_them() -> None:
    assert {kind.__module__ for kind in (*REDUCERS, *_OWN)} <= WITH_CARE
