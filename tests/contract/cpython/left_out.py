"""Lists the tests of CPython that this executor does not run, each with its reason."""

PRIVATE = "looks inside ProcessPoolExecutor: "
ONE_TASK = "demands that one crash break the whole pool; here it costs the task that it hit"
ONE_FUTURE = "demands that what cannot be unpickled break the whole pool; here its future fails"

# Those that came with 3.14; older versions may get them by a repair.
LATER = {
    "ProcessPoolExecutorTest.test_terminate_workers": PRIVATE + "replaces _force_shutdown",
    "ProcessPoolExecutorTest.test_kill_workers": PRIVATE + "replaces _force_shutdown",
    "ProcessPoolExecutorTest.test_force_shutdown_workers": PRIVATE + "reads _processes",
    "ProcessPoolExecutorTest.test_force_shutdown_workers_stops_pool": PRIVATE + "reads _processes",
    "ProcessPoolExecutorTest.test_broken_process_pool_traceback": PRIVATE + "reads _processes",
    "ProcessPoolExecutorTest.test_force_shutdown_during_max_tasks_worker_exit": (
        PRIVATE + "sets _force_shutting_down"
    ),
    "ProcessPoolExecutorTest.test_failed_worker_replacement_breaks_pool": (
        PRIVATE + "replaces _spawn_worker"
    ),
    "ProcessPoolExecutorTest.test_shutdown_no_wait_max_tasks_gh119592": (
        PRIVATE + "joins _executor_manager_thread"
    ),
    "ProcessPoolExecutorTest.test_gc_during_max_tasks_worker_exit_gh152967": (
        PRIVATE + "joins _executor_manager_thread"
    ),
    "ProcessPoolExecutorTest.test_traceback_when_child_process_terminates_abruptly": (
        PRIVATE + "looks for the exit status in a cause; here the error itself has it, as exitcode"
    ),
}

LEFT_OUT = {
    "ProcessPoolExecutorTest.test_killed_child": ONE_TASK,
    "ProcessPoolExecutorTest.test_saturation": PRIVATE + "counts _processes",
    "ProcessPoolExecutorTest.test_idle_process_reuse_one": PRIVATE + "counts _processes",
    "ProcessPoolExecutorTest.test_idle_process_reuse_multiple": PRIVATE + "counts _processes",
    "ProcessPoolExecutorTest.test_max_tasks_per_child": PRIVATE + "counts _processes",
    "ProcessPoolExecutorTest.test_max_tasks_per_child_defaults_to_spawn_context": (
        PRIVATE + "reads _mp_context; daemons are always fresh interpreters"
    ),
    "ProcessPoolExecutorTest.test_python_finalization_error": (
        PRIVATE + "makes the start of its second thread fail"
    ),
    "ProcessPoolShutdownTest.test_processes_terminate": PRIVATE + "counts _processes",
    "ProcessPoolShutdownTest.test_context_manager_shutdown": PRIVATE + "joins _processes",
    "ProcessPoolShutdownTest.test_del_shutdown": PRIVATE + "joins _executor_manager_thread",
    "ProcessPoolShutdownTest.test_shutdown_no_wait": PRIVATE + "joins _executor_manager_thread",
    "ExecutorDeadlockTest.test_error_at_task_unpickle": ONE_FUTURE,
    "ExecutorDeadlockTest.test_exit_at_task_unpickle": ONE_FUTURE,
    "ExecutorDeadlockTest.test_error_during_result_unpickle_in_result_handler": ONE_FUTURE,
    "ExecutorDeadlockTest.test_exit_during_result_unpickle_in_result_handler": ONE_FUTURE,
    "ExecutorDeadlockTest.test_shutdown_deadlock_pickle": (
        PRIVATE + "joins _executor_manager_thread"
    ),
}

# Those that daemons which dial their host cannot pass either; see pytest --transport.
LEFT_OUT_ELSEWHERE = {
    "ProcessPoolExecutorTest.test_max_tasks_early_shutdown": (
        "what has served its time elsewhere is not replaced"
    ),
    "ProcessPoolExecutorTest.test_ressources_gced_in_workers": (
        "the key of multiprocessing stays on this machine"
    ),
    "ProcessPoolShutdownTest.test_cancel_futures": (
        "demands that daemons which have not come yet count as having begun tasks"
    ),
}
