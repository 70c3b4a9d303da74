from .checkpoints import KeepCheckpoints as KeepCheckpoints, restore_run as restore_run
from .collapse import WarnOfCollapse as WarnOfCollapse
from .distributed import (
    distribute as distribute,
    distributed_device as distributed_device,
    is_helper as is_helper,
    process_shard as process_shard,
    refuse_idle_processes as refuse_idle_processes,
)
from .epoch_log import LogEpoch as LogEpoch
from .memory_check import MemoryNeeds as MemoryNeeds, check_memory as check_memory
from .mlflow_log import LogToMLflow as LogToMLflow, import_mlflow as import_mlflow
from .provenance import Provenance as Provenance, source_version as source_version
from .resume import (
    RESUME as RESUME,
    find_record as find_record,
    find_run as find_run,
    refuse_changes as refuse_changes,
    run_record as run_record,
)
from .run import run_training as run_training
from .run_lock import lock_run as lock_run
from .run_state import RunState as RunState
from .stop_signals import RunEvents as RunEvents, is_stopping as is_stopping
from .tensorboard import TrackRun as TrackRun
from .timed_schedule import FollowSchedule as FollowSchedule, TimedSchedule as TimedSchedule
from .train_step import TrainStep as TrainStep
from .validation import Validate as Validate
