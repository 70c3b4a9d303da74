from .checkpoints import (
    LAST as LAST,
    PREVIOUS as PREVIOUS,
    KeepCheckpoints as KeepCheckpoints,
    restore_run as restore_run,
)
from .distributed import (
    distribute as distribute,
    distributed_device as distributed_device,
    is_helper as is_helper,
    process_shard as process_shard,
    refuse_idle_processes as refuse_idle_processes,
)
from .epoch_report import ReportEpoch as ReportEpoch
from .memory_check import check_memory as check_memory
from .provenance import Provenance as Provenance, source_version as source_version
from .resume import (
    FREE_SETTINGS as FREE_SETTINGS,
    FREE_WITH_PHANTOMS as FREE_WITH_PHANTOMS,
    find_run as find_run,
    keep_settings as keep_settings,
    refuse_changes as refuse_changes,
    with_data as with_data,
)
from .run import run_pretraining as run_pretraining, run_training as run_training
from .step import TrainStep as TrainStep
from .stop import RunEvents as RunEvents, RunStopped as RunStopped, StopRun as StopRun
from .tensorboard import TrackRun as TrackRun
from .time_budget import KeepTime as KeepTime, TimeBudget as TimeBudget
from .validation import ValidateLast as ValidateLast, WarnOfCollapse as WarnOfCollapse
