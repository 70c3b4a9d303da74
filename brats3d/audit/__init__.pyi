from .copy_folder import check_output as check_output
from .dataset_audit import audit_dataset as audit_dataset
from .findings import Finding as Finding, make_finding as make_finding
from .image_checks import fingerprint as fingerprint
from .repair import repair_dataset as repair_dataset
from .summary import audit_lines as audit_lines, write_audit as write_audit
