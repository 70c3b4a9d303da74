from .listing import find_viewed_cases as find_viewed_cases
from .niivue import niivue_script as niivue_script
from .server import make_server as make_server
from .viewed_case import LabelFile as LabelFile, ViewedCase as ViewedCase
