from .printing import format_audit as format_audit, write_audit_json as write_audit_json
from .repaired_copy import check_copy_folder as check_copy_folder, write_repaired_copy as write_repaired_copy
from .whole_dataset import audit_dataset as audit_dataset
