from .estimate import Estimate as Estimate, Timing as Timing
from .make_plan import TrainingPlan as TrainingPlan, make_plan as make_plan
from .plan_file import plan_text as plan_text, write_plan as write_plan
