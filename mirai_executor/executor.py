"""``MiraiExecutor``: a drop-in ``ProcessPoolExecutor`` whose workers are mirai daemons."""

from collections.abc import Callable
from concurrent.futures.process import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

from . import _local  # whose modules are of no use to those who import a script for its functions
from ._arguments import check_count, check_launcher, check_options, check_pool, check_seconds
from ._host import ExecutorOptions, Settings, environments_for, most_daemons, serial_hooks
from ._lifetime import HostOwner, forking_for, host_for
from ._place import fair_share
from ._submitting import ExecutorView

if TYPE_CHECKING:
    from inspect import Signature
    from typing import Unpack

    from ._daemon_options import DaemonKeywords
    from ._host import DaemonsKeywords as DaemonsKeywords
    from ._host import ExecutorKeywords
    from ._provisioning._launching import Launching
    from .launchers import Launcher

__all__ = ["ExecutorView", "MiraiExecutor"]


class _Signature:
    """What ``inspect.signature`` shows of the class: each keyword of its ``**options``.

    It is made when it is asked for, because to import ``inspect`` takes milliseconds.
    """

    def __get__(self, instance: object, owner: type) -> "Signature":
        before = owner.__mro__[: owner.__mro__.index(MiraiExecutor)]
        if instance is not None or any({"__init__", "__new__"} & vars(it).keys() for it in before):
            raise AttributeError("__signature__")  # as if it had none: then theirs is read
        import inspect
        from collections.abc import Mapping, Sequence
        from typing import Literal, get_type_hints

        from ._serial import SerialConfig
        from .credentials import Password, Source
        from .launchers import Launcher

        names: dict[str, Any] = {
            "Callable": Callable,
            "Literal": Literal,
            "Mapping": Mapping,
            "Sequence": Sequence,
            "Launcher": Launcher,
            "SerialConfig": SerialConfig,
            "Password": Password,
            "Source": Source,
        }
        types, defaults = get_type_hints(ExecutorOptions, None, names), ExecutorOptions()
        of_init = inspect.signature(MiraiExecutor.__init__)
        _, *named, _ = of_init.parameters.values()  # without self and options
        keyword = inspect.Parameter.KEYWORD_ONLY
        keywords = [
            inspect.Parameter(it, keyword, default=getattr(defaults, it), annotation=types[it])
            for it in ExecutorOptions._fields
        ]
        return inspect.Signature([*named, *keywords], return_annotation=None)


class MiraiExecutor(HostOwner, ProcessPoolExecutor):  # type: ignore[override]  # of attributes
    """A ``ProcessPoolExecutor`` whose workers are daemons, on this machine or on others.

    It is a drop-in replacement for :class:`concurrent.futures.ProcessPoolExecutor`, and a subclass
    of it only because some libraries require one: nothing of the base class runs. Daemons are
    fresh Python interpreters. They start on demand as tasks are submitted, and no
    ``if __name__ == "__main__"`` guard is needed. All methods are safe from any thread.

    At the end of a ``with`` block, the executor waits for all tasks. If the block is left by
    ``KeyboardInterrupt`` or ``SystemExit``, queued and running tasks are cancelled instead.

    Args:
        max_workers: The largest number of daemons to run at once. By default, the number of
            processors that this process may use: the smallest of its affinity mask, the CPU quota
            of its control group, and ``PYTHON_CPU_COUNT``.
        mp_context: A context of ``multiprocessing``. With that of the start method ``fork``,
            daemons are forks of this process as it is when the first task is submitted. With any
            other, and by default, they are fresh Python interpreters; but if ``initargs`` hold
            objects of a fork context, daemons are forked, too.
        initializer: Called on each daemon before its first task. If it raises, all tasks fail.
        initargs: The arguments of the initializer, as a tuple.
        max_tasks_per_child: How many tasks a daemon runs before a new one replaces it; None for
            any number.
        dispatcher: True keeps all tasks in one queue, from which free daemons are served. False
            assigns each task to a daemon, in turn, when it is submitted.
        cleanup: Whether a daemon takes back after each task what the task has changed of global
            variables, the environment, the working directory, ``sys.path``, ``sys.argv``, standard
            streams, signal handlers, timers, tracers, logging and warnings. By default, it keeps
            what tasks change, as a worker of ``ProcessPoolExecutor`` does.
        idle_time: Seconds without a task after which a daemon exits; None for never.
        start_timeout: Seconds within which a daemon must be ready, initializer included. For one
            that connects to a ``url``, they start when it has authenticated.
        cancel_grace: Seconds that a task has to stop after it was cancelled or has timed out;
            after that, its daemon is killed and replaced.
        output: Whether what tasks print appears on this process's standard streams. True has
            daemons inherit standard output, but where ``sys.stdout`` is not that, as in tests and
            some notebooks, it passes on what they print, which appears there before their futures
            are done. ``"inherit"`` and ``"relay"`` do one of the two in any case, and ``"tagged"``
            puts the pid of the daemon before each line, also of standard error.
        logging: Whether what tasks log is handled by the loggers of this process; by default, if
            the root logger has a handler when the first task is submitted.
        name: A name for the executor's threads, shown in debuggers and logs, and in the titles of
            its daemons in ``ps``; all of its characters must be printable.
        python: The Python interpreter that runs the daemons, of the same minor version as this
            one; by default, the one that runs this process.
        ordering: ``"strict"`` starts tasks exactly in the order of submission: a task is sent only
            to a daemon that is free. By default (``"bounded"``), short tasks are sent together,
            and tasks that are known to take microseconds may overtake ones submitted just before.
        mode: ``"inline"`` runs each task in this process, when it is submitted, so that debuggers,
            profilers and coverage work. Arguments and results are copied, and what could not be
            pickled fails, as with daemons; exceptions keep their frames. Limits of time and
            options that are about daemons have no effect then.
        url: The address, or list of addresses, to which daemons connect, as returned by
            :func:`host_url` or :func:`local_url`. The executor then starts no daemons by itself;
            any number of them can connect, and they can come and go at any time. Daemons that end
            because of ``max_tasks_per_child`` or ``idle_time`` are not replaced, unless they were
            requested from ``remote``.
        advertise: The address, or list of addresses, that daemons are to dial where these are not
            those of ``url``: a port that a container publishes, address translation, a proxy that
            passes on bytes. Port 0 stands for the port that was found. Daemons that
            :meth:`launch_local` starts dial ``url`` itself.
        compression: ``"auto"`` compresses what is long on lines that turn out to be slow, as far
            as it becomes shorter. By default, nothing is: whoever watches an encrypted line, and
            can have text of theirs sent with a secret, learns by its length whether they agree.
        remote: How to start daemons on other machines, as returned by :func:`ssh_config`,
            :func:`cluster_config`, :func:`remote_config` or :func:`http_config`. ``max_workers``
            daemons are requested at once, and others when some of them are lost or end; with
            ``idle_time``, only if there is work for them. Without a ``url``,
            ``host_url(tls=True)`` is used.
        tls: The certificate for a TLS address, signed by an authority, and its key: one PEM file,
            or a pair of them. By default, a certificate is made that only these daemons trust.
        tls_password: The password of the key, or a callable that returns it.
        tls_cert: The certificates that daemons trust, if they are not in ``tls``.
        tls_minimum: The oldest version of TLS to accept, ``"1.2"`` or ``"1.3"``.
        heartbeat: Seconds between signs of life of daemons that connect to a ``url``. A daemon
            that has been silent for four of them is considered lost; a daemon waits for its host
            for twelve.
        launch_timeout: Seconds that a launcher may take to request daemons, such as the login on
            all machines.
        tolerate: How many of the commands or requests of one launch may fail, for instance those
            of machines that cannot be reached. The others serve, and each failure is a warning
            and in ``status()``. By default, it is enough that one does not fail.
        main: How daemons come by what your script defines. ``"auto"`` has them import the script,
            before the first task that needs it, if it has an ``if __name__ == "__main__":``: the
            first daemon by itself, the others once for all, unless it leaves what several
            processes must not share, such as threads or connections. Functions, classes and global
            variables that have changed since then are sent by value, as all are without one.
            ``"import"`` has them import it even so, and ``"value"`` never.
        env: Variables that daemons find in their environment, as a dict; or a function that gets
            the number of a daemon and returns a dict. Daemons are numbered from 1; one that
            replaces another has its number. The variables are set before anything of yours is
            imported, but after Python has started.
        gpus_per_daemon: How many GPUs each daemon sees; on this machine, no two see the same.
            ``CUDA_VISIBLE_DEVICES``, or ROCm's variables, are set, from what they hold or else
            from the devices of the machine. By default, ``max_workers`` is then the number for
            which there are enough. Elsewhere, daemons of this executor that share a machine
            divide its GPUs; where more come than it has GPUs for, some see the same.
        serial: How objects travel that pickle does not know, or knows badly, as returned by
            :func:`serial_config`; or a list of such. It comes on top of what
            :func:`register_serial` was told before.
        seed: A number from which random numbers are made, so that the same program gets the same
            ones each time: ``random``, NumPy's global generator and :func:`rng` are seeded for
            each task, by its place in the order of submission. By default, they are random.
        memory: How many bytes of pickled calls may be queued in this process. :meth:`submit` then
            waits until there is room, or raises what interrupts it; :meth:`try_submit` does not
            wait. By default, there is no bound.

    Raises:
        TypeError: ``initializer`` is not callable, or another argument has the wrong type.
        ValueError: A number is out of range, or arguments contradict each other.
        OSError: Listening on ``url`` failed.
        PayloadError: The functions of ``serial`` cannot be sent to daemons.

    Example:
        >>> with MiraiExecutor(2) as executor:
        ...     sum(executor.map(abs, range(-10, 0)))
        55
    """

    __signature__: Any = _Signature()
    _shares_processors = True  # among all its daemons, the threads that libraries may start

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        **options: "Unpack[ExecutorKeywords]",
    ) -> None:
        check_options(options, PARAMETERS)
        told = ExecutorOptions(**options)
        check_pool(max_workers, initializer, initargs, max_tasks_per_child)
        told.check(max_workers)
        python, url, remote, output = told.python, told.url, told.remote, told.output
        forking = forking_for(mp_context, initargs, python=python, url=url, remote=remote)
        environments = environments_for(told.env, told.gpus_per_daemon)
        hooks = serial_hooks(told.serial)
        most = most_daemons(max_workers, told.asked_for, environments)
        policy = told.policy(most, max_tasks_per_child)
        threads = fair_share(most) if self._shares_processors else None
        local = _local.LocalLauncher(
            python, output is not False, threads=threads, cleanup=told.cleanup
        )
        launching: Launching | None = None
        if told.is_open:
            from ._provisioning import _launching  # which most have no use for

            launching = _launching.launching_for(told, most)
        settings = Settings(
            *(policy, local, told.cleanup, initializer, tuple(initargs), told.name),
            None if launching is None else launching.listening.listen_config,
            *(told.heartbeat, forking, told.main, told.logging, environments, output),
            serial=hooks,
            memory=told.memory,
        )
        super().__init__(host_for(told.mode, settings), told.name, most, launching)
        self._seed_with(told.seed)
        if launching is not None:
            launching.begin(self, self._host, most, lazily=told.idle_time is not None)

    def launch_local(self, n: int = 1, **options: "Unpack[DaemonKeywords]") -> int:
        """Start ``n`` more daemons on this machine, in addition to ``max_workers``.

        Returns as soon as they have been requested. :meth:`wait_ready` then waits for them, too.

        Args:
            n: How many.
            **options: Only for an executor with a ``url``: the options of the command
                ``mirai-executor daemon``, with underscores, such as ``idle_time=60``. Its
                ``--help`` describes them. By default, ``cleanup`` is left to the executor, and
                daemons try to connect for 2 seconds (``retry``).

        Returns:
            ``n``.

        Raises:
            TypeError: There is no such option, or it has the wrong type.
            ValueError: ``n`` is negative, or an option is out of range.
            LaunchError: They could not be started.
            RuntimeError: The executor has been shut down.

        Example:
            >>> with MiraiExecutor(1) as executor:
            ...     executor.launch_local(1)
            ...     executor.wait_ready()
            ...     executor.status().connections
            1
            2
        """
        check_count("n", n)
        if self._launching is not None:
            self._check_not_shut_down()
            self._launching.launch_here(n, options)
            self._most += n
        elif options:
            raise TypeError(
                f"without a url, launch_local() takes no options, not {next(iter(options))!r}"
            )
        else:
            self._check_open()
            self._host.add_daemons(n)
            self._most += n
        return n

    def launch_remote(
        self, n: int = 1, remote: "Launcher | None" = None, **options: "Unpack[DaemonKeywords]"
    ) -> list[str]:
        """Start ``n`` daemons on other machines, or return the commands that start them.

        Args:
            n: How many.
            remote: How to start them, as returned by :func:`ssh_config` and the like; by default,
                as given to the executor.
            **options: The same as for :meth:`launch_local`. By default, daemons try to connect for
                30 seconds.

        Returns:
            The answers of the launcher, such as the number of a job. If there is no launcher,
            shell commands to paste on other machines, one for each daemon. They contain a
            token: anyone who reads one can run code as you until the executor is shut down.

        Raises:
            TypeError: There is no such option, or it has the wrong type.
            ValueError: ``n`` is negative, or an option is out of range.
            LaunchError: The launcher failed; the error has its command and its standard error.
            RuntimeError: The executor has no ``url``, or has been shut down.

        Example:
            >>> with MiraiExecutor(url=local_url(tcp=True)) as executor:
            ...     commands = executor.launch_remote(2)
            ...     len(commands), "mirai_executor daemon tcp://127.0.0.1" in commands[0]
            (2, True)
        """
        check_count("n", n)
        check_launcher(remote)
        self._check_not_shut_down()
        if self._launching is None:
            raise RuntimeError(
                "launch_remote() needs an executor with a url: create it with "
                "MiraiExecutor(url=host_url(tls=True))"
            )
        answers = self._launching.launch_remote(n, remote, options)
        if answers is None:
            return self._launching.commands(n, options)
        self._most += n
        return answers

    def adapt(
        self,
        minimum: int,
        maximum: int,
        *,
        remote: "Launcher | None" = None,
        release_after: float = 60.0,
        patience: float = 600.0,
        **options: "Unpack[DaemonKeywords]",
    ) -> None:
        """Request daemons when there are tasks, and release them when there are none.

        Returns at once. One request asks for all daemons that are missing. If the launcher
        refuses, it is asked again after a pause that doubles each time; after four refusals in a
        row with no daemon connected, the waiting tasks fail with the launcher's error. Calling
        this again replaces the previous settings, and those of ``remote``; daemons that are
        connected stay. Jobs whose ids are known (:func:`cluster_config`) are never more than
        ``maximum``, and those that wait in a queue are cancelled when they are not needed any
        more, or when the executor ends. Over several machines (:func:`ssh_config`), the numbers
        are those of all machines together.

        Args:
            minimum: The number of daemons to keep even when there is no work.
            maximum: The largest number of daemons.
            remote: How to start them; by default, as given to the executor, or else on this
                machine.
            release_after: Seconds after which a daemon that is not needed is released.
            patience: Seconds that a daemon may take to connect before another one is requested;
                but not while its job is in a queue, which is asked then.
            **options: The same as for :meth:`launch_local`; with ``idle_time``, a daemon also
                leaves by itself.

        Raises:
            TypeError: There is no such option, or it has the wrong type.
            ValueError: A number is out of range.
            RuntimeError: The executor has no ``url``, or has been shut down.

        Example:
            >>> with MiraiExecutor(url=local_url()) as executor:
            ...     executor.adapt(0, 2)
            ...     executor.submit(pow, 2, 10).result()
            1024
        """
        self._check_open()
        if self._launching is None:
            raise RuntimeError(
                "adapt() needs an executor with a url; without one, daemons start on demand, "
                "up to max_workers, and exit after idle_time"
            )
        check_launcher(remote)
        check_count("minimum", minimum)
        check_count("maximum", maximum, 1)
        check_seconds("release_after", release_after)
        check_seconds("patience", patience)
        from ._core import ScalePolicy

        policy = ScalePolicy(minimum, maximum, release_after, patience)
        self._launching.adapt(self, policy, remote, options)

    @property
    def _broken(self) -> Any:  # type: ignore[override]  # there it is an attribute
        """What ProcessPoolExecutor calls by this name: libraries look at it."""
        return self._host.launch_error or False

    def __repr__(self) -> str:
        name = f" {self._name!r}" if self._name else ""
        state = " shut down" if self._is_shut_down else ""
        return f"<MiraiExecutor{name} max_workers={self._max_workers}{state}>"


_CODE = MiraiExecutor.__init__.__code__
_OTHERS = _CODE.co_varnames[1 : _CODE.co_argcount + _CODE.co_kwonlyargcount]  # than self
PARAMETERS = (*_OTHERS, *ExecutorOptions._fields)
