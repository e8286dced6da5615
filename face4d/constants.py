"""Numbers and names that the data sets and the field fix; everything else comes from the data."""

MM_PER_METRE = 1000.0

NUM_CONTOUR = 17  # jaw line points, chosen by the head's yaw
NUM_STATIC = 51  # brows, nose, eyes, mouth
NUM_LANDMARKS = NUM_CONTOUR + NUM_STATIC  # 68, contour first

# iBUG 68 order, subject's right side first.
LANDMARK_GROUPS: dict[str, slice] = {
    "jaw": slice(0, 17),
    "brows": slice(17, 27),
    "nose": slice(27, 36),
    "eyes": slice(36, 48),
    "mouth": slice(48, 68),
}
OUTER_EYES = (36, 45)  # their outer corners

# Open and closed polylines that draw the 68 points as a face.
LANDMARK_LINES: tuple[tuple[int, ...], ...] = (
    tuple(range(17)),
    tuple(range(17, 22)),
    tuple(range(22, 27)),
    tuple(range(27, 31)),
    tuple(range(31, 36)),
    (*range(36, 42), 36),
    (*range(42, 48), 42),
    (*range(48, 60), 48),
    (*range(60, 68), 60),
)

COMA_LABELS: tuple[str, ...] = (
    "bareteeth",
    "cheeks-in",
    "eyebrow",
    "high-smile",
    "lips-back",
    "lips-up",
    "mouth-down",
    "mouth-extreme",
    "mouth-middle",
    "mouth-open",
    "mouth-side",
    "mouth-up",
)
COMA_TEST_SUBJECTS: tuple[str, ...] = (
    "FaceTalk_170912_03278_TA",
    "FaceTalk_170913_03279_TA",
    "FaceTalk_170915_00223_TA",
)

FLORENCE_LABELS: tuple[str, ...] = (
    "Cheeky",
    "Confused",
    "Cool",
    "Displeased",
    "Happy",
    "Kissy",
    "Moody",
    "Rage",
    "Sad2",
    "Scream",
)
FLORENCE_TEST_SUBJECTS: tuple[str, ...] = ("CH01", "CH02")

FLAME_VERTICES = 5023
DEMO_VERTICES = 871  # of the procedural head

COMA_FRAMES = 41  # neutral + 40
FLORENCE_FRAMES = 61  # neutral + 60
THESIS_SEED = 27
