"""What things are used for, and the festivals they belong to: keywords, reviewed one by one."""

from __future__ import annotations

# key: (English after "used for", Chinese after 可以用来). What can be eaten is for that; other things have no one use.
USES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("car", "bus"), ("carrying people", "载人")),
    "truck": ("carrying goods", "运货"),
    "tractor": ("working in the fields", "种地"),
    **dict.fromkeys(("bicycle", "motorcycle"), ("riding", "骑行")),
    "train": ("travelling far", "出远门"),
    **dict.fromkeys(("airplane", "helicopter"), ("flying", "飞行")),
    "rocket": ("flying into space", "飞向太空"),
    **dict.fromkeys(("ship", "sailboat"), ("sailing", "航行")),
    "house": ("living in", "居住"),
    "umbrella": ("keeping off the rain", "挡雨"),
    "key": ("opening locks", "开锁"),
    "lock": ("locking doors", "锁门"),
    "clock": ("telling the time", "看时间"),
    "gift": ("giving to friends", "送给朋友"),
    "bell": ("ringing", "发出铃声"),
    "book": ("reading", "阅读"),
    "hammer": ("driving nails", "钉钉子"),
    "scissors": ("cutting", "剪东西"),
    "pencil": ("writing", "写字"),
    "laptop": ("working", "工作"),
    "camera": ("taking photos", "拍照"),
    **dict.fromkeys(("phone", "telephone"), ("calling people", "打电话")),
    "television": ("watching shows", "看节目"),
    **dict.fromkeys(("bulb", "lantern"), ("giving light", "照明")),
    **dict.fromkeys(("guitar", "violin", "trumpet", "drum", "piano"), ("making music", "演奏音乐")),
    "microphone": ("singing", "唱歌"),
    "headphones": ("listening to music", "听音乐"),
    **dict.fromkeys(("football", "basketball"), ("playing ball", "打球")),
    **dict.fromkeys(("hat", "crown"), ("wearing on the head", "戴在头上")),
    "shoe": ("wearing on the feet", "穿在脚上"),
    "ring": ("wearing on a finger", "戴在手指上"),
    "glasses": ("seeing clearly", "看清东西"),
    **dict.fromkeys(("tshirt", "dress"), ("wearing", "穿在身上")),
    "bed": ("sleeping", "睡觉"),
    "chair": ("sitting", "坐"),
    "door": ("going in and out", "进出房间"),
    "chopsticks": ("eating", "吃饭"),
    "backpack": ("carrying books", "装书"),
    "tent": ("camping", "露营"),
    **dict.fromkeys(("coffee", "tea", "beer"), ("drinking", "喝")),
    "redenvelope": ("giving money", "送压岁钱"),
    "firecracker": ("celebrating", "庆祝"),
}

# key: (English, Chinese). Things that are not here belong to no festival.
FESTIVALS: dict[str, tuple[str, str]] = {
    "christmastree": ("Christmas", "圣诞节"),
    **dict.fromkeys(("lantern", "redenvelope", "firecracker", "dumpling"), ("Chinese New Year", "春节")),
    "mooncake": ("the Mid-Autumn Festival", "中秋节"),
    **dict.fromkeys(("pumpkin", "ghost"), ("Halloween", "万圣节")),
    **dict.fromkeys(("rose", "heart"), ("Valentine's Day", "情人节")),
}
