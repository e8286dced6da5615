"""face4d: dynamic 3D (4D) facial expressions, from a neutral face and a label to a moving face.

Importing the package loads nothing heavy; import the module you need (``from face4d.generation import lstm``).
"""

from face4d.runtime.environment import require_packages

__version__ = "0.2.0"

require_packages()
