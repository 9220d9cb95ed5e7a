"""What people see of a status: all daemons in a few lines, and nothing that a page would run."""

import copy
import pickle

from mirai_executor import DaemonStatus, Info, MemoryStatus, Status, Waiting

BUSY = DaemonStatus(41, "here", "busy", 3)
SCRIPT = "<script>"


def test_a_status_shows_its_counts_and_a_line_for_each_daemon() -> None:
    assert repr(Status(1, None, 5, 1, 3, (BUSY,))) == (
        "<Status: 1 daemon connected; tasks: 5 awaiting, 1 executing, 3 completed>\n"
        "  pid 41 on here: busy, 3 tasks done"
    )
    assert "; at tcp://a:1; 2 connections refused>" in repr(
        Status(0, "tcp://a:1", 0, 0, 0, (), refused=2)
    )


def test_a_status_shows_how_much_is_queued_where_there_is_a_bound() -> None:
    status = Status(0, None, 2, 0, 0, (), memory=MemoryStatus(1_000, 2_500, 9_000))
    assert "; 1,000 of 9,000 bytes queued, 2,500 at most so far>" in repr(status)
    assert copy.copy(status) == pickle.loads(pickle.dumps(status)) == status


def test_a_status_shows_twenty_daemons_and_says_how_many_more_there_are() -> None:
    status = Status(90, None, 0, 0, 0, (BUSY,) * 90)
    assert repr(status).count("pid 41") == status._repr_html_().count("<td>41</td>") == 20
    assert repr(status).endswith("\n  and 70 more")
    assert status._repr_html_().endswith("<p>and 70 more</p>")


def test_a_status_says_why_there_are_fewer_daemons_than_there_should_be() -> None:
    status = Status(1, None, 5, 1, 3, (BUSY,), shortage=f"see ulimit {SCRIPT}")
    assert repr(status).endswith(f"\n  no room for more: see ulimit {SCRIPT}")
    assert status._repr_html_().endswith("<p>no room for more: see ulimit &lt;script&gt;</p>")


def test_a_status_says_which_launches_have_failed() -> None:
    status = Status(1, None, 0, 0, 0, (), failures=("ssh failed",))
    assert repr(status).endswith("\n  a launch has failed: ssh failed")
    assert status._repr_html_().endswith("<p>a launch has failed: ssh failed</p>")


def test_a_status_says_why_daemons_have_left() -> None:
    status = Status(1, None, 0, 0, 0, (), departures=("pid 41 on b has left: idle",))
    assert repr(status).endswith("\n  pid 41 on b has left: idle")


def test_a_notebook_shows_a_table_in_which_names_are_text() -> None:
    html = Status(1, SCRIPT, 0, 0, 0, (DaemonStatus(1, SCRIPT, SCRIPT, 0),))._repr_html_()
    assert (html.count("<table>"), html.count("<tr>")) == (1, 2)
    assert (html.count(SCRIPT), html.count("&lt;script&gt;")) == (0, 3)
    assert "<table>" not in Status(0, None, 0, 0, 0, ())._repr_html_()


def test_a_status_is_still_data() -> None:
    status = Status(1, None, 5, 1, 3, (BUSY,))
    assert status == copy.copy(status) == pickle.loads(pickle.dumps(status))
    assert repr(Info(1, 2, 3, 4, 5)).startswith("Info(connections=1, cumulative=2,")


def test_a_status_says_that_tasks_wait_for_daemons_and_what_the_launcher_has_said() -> None:
    status = Status(0, None, 2, 0, 0, (), waiting=Waiting(2, 31.4, 4, f"sbatch said: {SCRIPT}"))
    said = "2 tasks have waited for 31 s, and no daemon is connected; 4 requested; sbatch said: "
    assert repr(status).endswith(f"\n  {said}{SCRIPT}")
    assert status._repr_html_().endswith(f"<p>{said}&lt;script&gt;</p>")
    assert str(Waiting(1, 31.4, 0, "")).startswith("1 task has waited for 31 s, ")
