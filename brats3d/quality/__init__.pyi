from .calibration import Calibration as Calibration, calibration_error as calibration_error
from .case_features import FEATURES as FEATURES, case_features as case_features
from .fit import (
    MIN_CASES as MIN_CASES,
    fit_quality as fit_quality,
    predict_out_of_fold as predict_out_of_fold,
)
from .fitting_case import FittingCase as FittingCase, describe_case as describe_case
from .quality_file import (
    QUALITY_NAME as QUALITY_NAME,
    Predictions as Predictions,
    read_quality as read_quality,
    write_quality as write_quality,
)
from .quality_model import (
    REVIEW_DICE as REVIEW_DICE,
    QualityModel as QualityModel,
    RegionQuality as RegionQuality,
    calibrate as calibrate,
    review_reason as review_reason,
)
from .save_quality import SaveQuality as SaveQuality
