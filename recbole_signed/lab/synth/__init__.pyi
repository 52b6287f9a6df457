from .generator import generate as generate
from .profile import PROFILES as PROFILES
from .writer import write as write
