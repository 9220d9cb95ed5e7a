"""Hosts that use setproctitle, whose daemons say in ``ps`` what they do."""

from live.hosts import run


def test_a_daemon_shows_whether_it_works() -> None:
    ended = run("""
        import setproctitle

        def title(pid="self"):
            return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\\0 ")

        with MiraiExecutor(1, name="gpu") as executor:
            print(executor.submit(title).result())
            (row,) = executor.status().rows
            while title(row.pid) != "mirai-gpu-1 idle":
                pass  # the result was sent a moment before
            print(*[future.result() for future in executor.everywhere(title)])
    """)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == ["mirai-gpu-1 busy"] * 2
