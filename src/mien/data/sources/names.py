"""What data sets call emotions and splits."""

NAMES = {
    "angry": ("anger", "ang"),
    "disgust": ("disgusted", "disgusting", "dis"),
    "fear": ("fearful", "afraid", "scared"),
    "happy": ("happiness", "joy", "hap"),
    "sad": ("sadness",),
    "surprise": ("surprised", "surprising", "sur"),
    "neutral": ("neutrality", "neu"),
}
"""Other names of the emotions, as data sets call their folders."""

SYNONYMS = {name: emotion for emotion, others in NAMES.items() for name in (emotion, *others)}

SKIP = "skip"
"""In a label map: leave it out."""

RAFDB = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")

LABEL_MAPS = {
    "rafdb": {str(number): emotion for number, emotion in enumerate(RAFDB, 1)},
    "affectnet": {str(number): emotion for number, emotion in enumerate(AFFECTNET)}
    | dict.fromkeys(("7", "contempt", "8", "9", "10"), SKIP),
}
"""The numbers by which data sets call the emotions; AffectNet's 7 is contempt, 8 to 10 are no emotion and no face."""

USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
"""FER-2013's own split names."""

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
    **{usage.lower(): split for usage, split in USAGES.items()},
}
"""What data sets call the splits, in small letters."""
