"""The pinned open packages of pictograms, what their icons are called, and drawings that are left out."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Package:
    """A pinned npm package of SVG pictograms in one style. `ink`: drawn in one colour, tinted when composed."""

    style: str
    version: str
    licence: str
    author: str
    role: str  # "train", "choose" or "test"
    integrity: str
    ink: bool = False


PACKAGES: tuple[Package, ...] = (
    Package("noto", "1.2.9", "Apache-2.0", "Google", "train",
            "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw=="),
    Package("noto-v1", "1.2.5", "Apache-2.0", "Google", "train",
            "sha512-/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA=="),
    Package("fluent-emoji", "1.2.7", "MIT", "Microsoft", "train",
            "sha512-D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA=="),
    Package("fluent-emoji-flat", "1.2.6", "MIT", "Microsoft", "train",
            "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw=="),
    Package("fluent-emoji-high-contrast", "1.2.6", "MIT", "Microsoft", "train",
            "sha512-esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w==", True),
    Package("twemoji", "1.2.5", "CC-BY-4.0", "Twitter", "train",
            "sha512-uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw=="),
    Package("emojione", "1.2.3", "CC-BY-4.0", "EmojiOne", "train",
            "sha512-T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg=="),
    Package("emojione-monotone", "1.2.1", "CC-BY-4.0", "EmojiOne", "train",
            "sha512-cZSNcPsuiAD6HCzCh/2dYKGh3pNI0jJlxBxQWfC33cQsPtqYZqulGBvlkThXYNvDl8VxgVHT9u+izyX/yeEIkA==", True),
    Package("fxemoji", "1.2.2", "Apache-2.0", "Mozilla", "train",
            "sha512-UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ=="),
    Package("streamline-emojis", "1.2.4", "CC-BY-4.0", "Streamline", "train",
            "sha512-iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A=="),
    Package("emojione-v1", "1.2.3", "CC-BY-SA-4.0", "EmojiOne", "choose",
            "sha512-UjI2VQEXVtGlPBvQuxEizro7QCgBcJDOYwKUupquvvZ8UV4xOlvm45IU82JYWegiAWLerY79gFLMZ26U6Ms+ww=="),
    Package("openmoji", "1.2.29", "CC-BY-SA-4.0", "OpenMoji", "test",
            "sha512-vXdhkqcXVSO6suy+m9LbcUM3OdVyuNOtpV8/als/WqfkQIRxevL5Geb/g+6GH/Qwnq1OqksEmaDGTCmZ5nFKJQ=="),
)

# Names that packages without a table of code points give to an icon, by the name it has today.
OLD_NAMES: dict[str, tuple[str, ...]] = {
    "panda": ("panda-face",), "lion": ("lion-face",), "bear": ("bear-face",), "frog": ("frog-face",),
    "robot": ("robot-face",), "dog-face": ("dog",), "cat-face": ("cat",), "pig-face": ("pig",),
    "tiger-face": ("tiger",), "mouse-face": ("mouse",), "rabbit-face": ("bunny",), "rabbit": ("bunny-side",),
    "dog": ("dog-side",), "cat": ("cat-side",), "pig": ("pig-side",), "tiger": ("tiger-side",),
    "front-facing-baby-chick": ("front-facing-chick",), "spouting-whale": ("spurting-whale",),
    "ear-of-corn": ("ear-of-maize",), "eggplant": ("aubergine",), "pizza": ("slice-of-pizza",),
    "sport-utility-vehicle": ("recreational-vehicle",), "locomotive": ("steam-locomotive",),
    "house": ("house-building",), "castle": ("european-castle",), "mantelpiece-clock": ("manltepiece-clock",),
    "wrapped-gift": ("present",), "scissors": ("black-scissors",), "laptop": ("personal-computer",),
    "mobile-phone": ("cellphone",), "telephone": ("black-telephone",), "basketball": ("basketball-and-hoop",),
    "running-shoe": ("mens-runner",), "mans-shoe": ("mens-shoe",), "t-shirt": ("mans-shirt",), "sun": ("white-sun",),
    "red-heart": ("heart-suit",), "snowman-without-snow": ("snowman",), "two-hump-camel": ("bactrian-camel",),
    "camel": ("dromedary-camel",), "water-pistol": ("pistol",), "bullseye": ("direct-hit",), "fox": ("fox-face",),
    "wolf": ("wolf-face",), "unicorn": ("unicorn-face",), "dove": ("dove-of-peace",), "dragon": ("dragon-side",),
    "dragon-face": ("dragon-head",), "tennis": ("tennis-ball",), "game-die": ("game-dice",),
    "hot-pepper": ("chili-pepper",), "chestnut": ("acorn",), "hourglass-done": ("hourglass",),
    "hourglass-not-done": ("hourglass-flowing-sand",), "necktie": ("tie",), "locked": ("lock",), "ewe": ("sheep",),
    "fishing-pole": ("fishing-pole-and-fish",), "high-voltage": ("lightning-mood",), "backpack": ("school-backpack",),
}

# (style, emoji) whose drawing does not show the concept, found by looking at every one of them.
DROPPED: frozenset[tuple[str, str]] = frozenset({
    ("fxemoji", "🕶"),  # a face
    ("noto-v1", "💻"), ("fxemoji", "💻"), ("emojione-v1", "💻"),  # not a laptop
    ("noto-v1", "🚆"),  # looks like a bus
    ("emojione", "💺"), ("emojione-monotone", "💺"),  # a box
    ("emojione-v1", "🍨"), ("emojione-v1", "⚽"),  # parts are missing
    ("fxemoji", "🚢"), ("fxemoji", "⛵"), ("fxemoji", "🌈"),  # bring a background of their own
    ("streamline-emojis", "🚢"), ("streamline-emojis", "🏰"), ("streamline-emojis", "🌈"),
    *((style, "⛺") for style in ("emojione", "emojione-monotone", "fxemoji", "streamline-emojis", "emojione-v1")),
    ("streamline-emojis", "🎧"), ("streamline-emojis", "🍁"),  # earplugs; another leaf
})
