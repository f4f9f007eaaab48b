"""The everyday things of the world: their names in both languages, what they are, and which drawings show them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Concept:
    """One everyday thing. `phrase` is its English with the article; `edible` None: opinions differ, never asked."""

    key: str
    phrase: str
    zh: str
    measure: str
    category: str
    edible: bool | None
    emoji: str
    aliases_en: tuple[str, ...] = ()
    aliases_zh: tuple[str, ...] = ()

    @property
    def en(self) -> str:
        """The English name without article."""
        return self.phrase.split(" ", 1)[1]

    @property
    def plural(self) -> bool:
        """Whether English says "there are"."""
        return self.key in PLURAL


C = Concept
CONCEPTS: tuple[Concept, ...] = (
    C("dog", "a dog", "狗", "只", "animal", False, "🐶🐕", ("puppy", "doggy"), ("小狗", "狗狗")),
    C("cat", "a cat", "猫", "只", "animal", False, "🐱🐈", ("kitten", "kitty"), ("小猫", "猫咪")),
    C("pig", "a pig", "猪", "头", "animal", None, "🐷🐖", ("piggy",), ("小猪",)),
    C("rabbit", "a rabbit", "兔子", "只", "animal", None, "🐰🐇", ("bunny",), ("小兔子", "兔")),
    C("horse", "a horse", "马", "匹", "animal", None, "🐴🐎", ("pony",), ("小马", "马儿")),
    C("cow", "a cow", "牛", "头", "animal", None, "🐮🐄", ("cattle",), ("奶牛", "母牛")),
    C("monkey", "a monkey", "猴子", "只", "animal", False, "🐵🐒", (), ("小猴子", "猴")),
    C("elephant", "an elephant", "大象", "头", "animal", False, "🐘", (), ("象", "小象")),
    C("panda", "a panda", "熊猫", "只", "animal", False, "🐼", ("giant panda",), ("大熊猫",)),
    C("lion", "a lion", "狮子", "头", "animal", False, "🦁", (), ("狮", "雄狮")),
    C("tiger", "a tiger", "老虎", "只", "animal", False, "🐯🐅", (), ("虎", "小老虎")),
    C("mouse", "a mouse", "老鼠", "只", "animal", False, "🐭🐁", (), ("小老鼠", "鼠")),
    C("bear", "a bear", "熊", "头", "animal", False, "🐻", ("brown bear",), ("棕熊", "狗熊")),
    C("penguin", "a penguin", "企鹅", "只", "animal", False, "🐧", (), ("小企鹅",)),
    C("chicken", "a chicken", "鸡", "只", "animal", None, "🐔🐓", ("rooster", "hen"), ("公鸡", "母鸡")),
    C("chick", "a chick", "小鸡", "只", "animal", False, "🐤🐥", ("baby chick",), ("鸡仔",)),
    C("duck", "a duck", "鸭子", "只", "animal", None, "🦆", (), ("鸭", "小鸭子")),
    C("owl", "an owl", "猫头鹰", "只", "animal", False, "🦉", (), ()),
    C("frog", "a frog", "青蛙", "只", "animal", None, "🐸", (), ("小青蛙",)),
    C("fish", "a fish", "鱼", "条", "animal", True, "🐟🐠", ("tropical fish",), ("小鱼",)),
    C("whale", "a whale", "鲸鱼", "头", "animal", None, "🐳🐋", (), ("鲸",)),
    C("octopus", "an octopus", "章鱼", "只", "animal", None, "🐙", (), ()),
    C("crab", "a crab", "螃蟹", "只", "animal", True, "🦀", (), ("蟹",)),
    C("turtle", "a turtle", "乌龟", "只", "animal", None, "🐢", ("tortoise",), ("龟",)),
    C("snail", "a snail", "蜗牛", "只", "animal", None, "🐌", (), ()),
    C("butterfly", "a butterfly", "蝴蝶", "只", "animal", False, "🦋", (), ()),
    C("bee", "a bee", "蜜蜂", "只", "animal", False, "🐝", ("honeybee",), ("小蜜蜂",)),
    C("ladybug", "a ladybug", "瓢虫", "只", "animal", False, "🐞", ("ladybird",), ()),
    C("snake", "a snake", "蛇", "条", "animal", None, "🐍", (), ("小蛇",)),
    C("apple", "an apple", "苹果", "个", "fruit", True, "🍎🍏", ("red apple", "green apple"), ("红苹果", "青苹果")),
    C("banana", "a banana", "香蕉", "根", "fruit", True, "🍌", (), ()),
    C("grapes", "some grapes", "葡萄", "串", "fruit", True, "🍇", (), ()),
    C("watermelon", "a watermelon", "西瓜", "块", "fruit", True, "🍉", (), ()),
    C("strawberry", "a strawberry", "草莓", "颗", "fruit", True, "🍓", (), ()),
    C("lemon", "a lemon", "柠檬", "个", "fruit", True, "🍋", (), ()),
    C("orange", "an orange", "橘子", "个", "fruit", True, "🍊", ("tangerine",), ("橙子", "桔子")),
    C("pear", "a pear", "梨", "个", "fruit", True, "🍐", (), ("梨子",)),
    C("peach", "a peach", "桃子", "个", "fruit", True, "🍑", (), ("桃",)),
    C("cherries", "some cherries", "樱桃", "串", "fruit", True, "🍒", (), ("车厘子",)),
    C("pineapple", "a pineapple", "菠萝", "个", "fruit", True, "🍍", (), ("凤梨",)),
    C("tomato", "a tomato", "西红柿", "个", "vegetable", True, "🍅", (), ("番茄",)),
    C("carrot", "a carrot", "胡萝卜", "根", "vegetable", True, "🥕", (), ("红萝卜",)),
    C("corn", "some corn", "玉米", "根", "vegetable", True, "🌽", ("maize",), ("苞米",)),
    C("mushroom", "a mushroom", "蘑菇", "朵", "vegetable", True, "🍄", (), ("菌菇",)),
    C("eggplant", "an eggplant", "茄子", "个", "vegetable", True, "🍆", ("aubergine",), ()),
    C("bread", "some bread", "面包", "块", "food", True, "🍞", (), ("吐司",)),
    C("pizza", "a pizza", "比萨", "块", "food", True, "🍕", (), ("披萨", "比萨饼")),
    C("cake", "a cake", "蛋糕", "块", "food", True, "🍰🎂", ("birthday cake",), ("生日蛋糕",)),
    C("hamburger", "a hamburger", "汉堡", "个", "food", True, "🍔", ("burger",), ("汉堡包",)),
    C("fries", "some fries", "薯条", "份", "food", True, "🍟", ("french fries", "chips"), ("炸薯条",)),
    C("icecream", "an ice cream", "冰淇淋", "个", "food", True, "🍦🍨", (), ("冰激凌", "雪糕")),
    C("doughnut", "a doughnut", "甜甜圈", "个", "food", True, "🍩", ("donut",), ()),
    C("cookie", "a cookie", "饼干", "块", "food", True, "🍪", ("biscuit",), ("曲奇",)),
    C("egg", "an egg", "鸡蛋", "个", "food", True, "🍳🥚", ("fried egg",), ("蛋", "煎蛋")),
    C("cheese", "some cheese", "奶酪", "块", "food", True, "🧀", (), ("芝士", "乳酪")),
    C("coffee", "a coffee", "咖啡", "杯", "drink", None, "☕", ("hot drink",), ("热饮",)),
    C("car", "a car", "汽车", "辆", "vehicle", False, "🚗🚙", ("automobile",), ("小汽车", "车", "轿车")),
    C("bus", "a bus", "公共汽车", "辆", "vehicle", False, "🚌", (), ("公交车", "巴士")),
    C("truck", "a truck", "卡车", "辆", "vehicle", False, "🚚🚛", ("lorry",), ("货车",)),
    C("tractor", "a tractor", "拖拉机", "辆", "vehicle", False, "🚜", (), ()),
    C("bicycle", "a bicycle", "自行车", "辆", "vehicle", False, "🚲", ("bike",), ("单车", "脚踏车")),
    C("motorcycle", "a motorcycle", "摩托车", "辆", "vehicle", False, "🏍🛵", ("motorbike", "scooter"), ("摩托",)),
    C("train", "a train", "火车", "列", "vehicle", False, "🚆🚂", ("locomotive",), ("列车",)),
    C("airplane", "an airplane", "飞机", "架", "vehicle", False, "✈🛩", ("plane", "aeroplane"), ("客机",)),
    C("helicopter", "a helicopter", "直升机", "架", "vehicle", False, "🚁", (), ("直升飞机",)),
    C("rocket", "a rocket", "火箭", "枚", "vehicle", False, "🚀", ("spaceship",), ()),
    C("ship", "a ship", "轮船", "艘", "vehicle", False, "🚢", (), ("大船",)),
    C("sailboat", "a sailboat", "帆船", "艘", "vehicle", False, "⛵", ("sailing boat",), ("小帆船",)),
    C("house", "a house", "房子", "座", "building", False, "🏠🏡", ("home",), ("房屋", "屋子")),
    C("castle", "a castle", "城堡", "座", "building", False, "🏰", (), ("古堡",)),
    C("rose", "a rose", "玫瑰", "朵", "plant", False, "🌹", (), ("玫瑰花",)),
    C("sunflower", "a sunflower", "向日葵", "朵", "plant", False, "🌻", (), ("葵花",)),
    C("tulip", "a tulip", "郁金香", "朵", "plant", False, "🌷", (), ()),
    C("tree", "a tree", "树", "棵", "plant", False, "🌳", (), ("大树",)),
    C("palm", "a palm tree", "棕榈树", "棵", "plant", False, "🌴", ("coconut tree",), ("椰子树",)),
    C("christmastree", "a Christmas tree", "圣诞树", "棵", "plant", False, "🎄", (), ()),
    C("cactus", "a cactus", "仙人掌", "棵", "plant", False, "🌵", (), ()),
    C("star", "a star", "星星", "颗", "nature", False, "⭐🌟", (), ("五角星", "星")),
    C("rainbow", "a rainbow", "彩虹", "道", "nature", False, "🌈", (), ()),
    C("moon", "a moon", "月亮", "个", "nature", False, "🌙🌛", ("crescent",), ("弯月", "月牙")),
    C("sun", "a sun", "太阳", "个", "nature", False, "☀🌞", (), ()),
    C("cloud", "a cloud", "云", "朵", "nature", False, "☁", (), ("云朵", "白云")),
    C("fire", "a fire", "火", "团", "nature", False, "🔥", ("flame",), ("火焰",)),
    C("snowman", "a snowman", "雪人", "个", "toy", False, "⛄☃", (), ()),
    C("balloon", "a balloon", "气球", "个", "toy", False, "🎈", (), ()),
    C("robot", "a robot", "机器人", "个", "toy", False, "🤖", (), ()),
    C("ghost", "a ghost", "幽灵", "个", "fantasy", False, "👻", (), ("鬼",)),
    C("alien", "an alien", "外星人", "个", "fantasy", False, "👽", (), ()),
    C("umbrella", "an umbrella", "雨伞", "把", "object", False, "☂☔", (), ("伞",)),
    C("key", "a key", "钥匙", "把", "object", False, "🔑🗝", (), ()),
    C("clock", "a clock", "闹钟", "个", "object", False, "⏰🕰", ("alarm clock",), ("钟", "时钟")),
    C("gift", "a gift", "礼物", "份", "object", False, "🎁", ("present",), ("礼品", "礼盒")),
    C("bell", "a bell", "铃铛", "个", "object", False, "🔔", (), ("铃",)),
    C("book", "a book", "书", "本", "object", False, "📖📕", (), ("书本",)),
    C("heart", "a heart", "爱心", "颗", "symbol", False, "❤", ("love heart",), ("心", "红心")),
    C("hammer", "a hammer", "锤子", "把", "tool", False, "🔨", (), ("铁锤",)),
    C("scissors", "some scissors", "剪刀", "把", "tool", False, "✂", (), ("剪子",)),
    C("pencil", "a pencil", "铅笔", "支", "tool", False, "✏", (), ("笔",)),
    C("laptop", "a laptop", "笔记本电脑", "台", "device", False, "💻", ("computer",), ("电脑",)),
    C("camera", "a camera", "照相机", "台", "device", False, "📷📸", (), ("相机",)),
    C("phone", "a mobile phone", "手机", "部", "device", False, "📱", ("cell phone", "smartphone"), ()),
    C("telephone", "a telephone", "电话", "部", "device", False, "☎", (), ("电话机", "座机")),
    C("television", "a television", "电视", "台", "device", False, "📺", ("TV",), ("电视机",)),
    C("bulb", "a light bulb", "灯泡", "个", "device", False, "💡", ("lamp",), ("电灯", "灯")),
    C("guitar", "a guitar", "吉他", "把", "instrument", False, "🎸", (), ()),
    C("violin", "a violin", "小提琴", "把", "instrument", False, "🎻", (), ()),
    C("trumpet", "a trumpet", "小号", "把", "instrument", False, "🎺", (), ("喇叭",)),
    C("drum", "a drum", "鼓", "面", "instrument", False, "🥁", (), ("小鼓",)),
    C("piano", "a piano", "钢琴", "架", "instrument", False, "🎹", ("keyboard",), ("琴键",)),
    C("football", "a football", "足球", "个", "sport", False, "⚽", ("soccer ball",), ()),
    C("basketball", "a basketball", "篮球", "个", "sport", False, "🏀", (), ()),
    C("hat", "a hat", "帽子", "顶", "clothing", False, "👒🎩", ("cap",), ("礼帽",)),
    C("shoe", "a shoe", "鞋", "只", "clothing", False, "👟👞", ("sneaker",), ("鞋子", "运动鞋")),
    C("glasses", "some glasses", "眼镜", "副", "clothing", False, "👓🕶", ("sunglasses",), ("太阳镜",)),
    C("tshirt", "a T-shirt", "T恤", "件", "clothing", False, "👕", ("shirt",), ("上衣", "衣服")),
    C("dress", "a dress", "裙子", "条", "clothing", False, "👗", (), ("连衣裙",)),
    C("crown", "a crown", "王冠", "顶", "clothing", False, "👑", (), ("皇冠",)),
    C("bed", "a bed", "床", "张", "furniture", False, "🛏🛌", (), ()),
    C("chair", "a chair", "椅子", "把", "furniture", False, "🪑💺", ("seat",), ("座椅",)),
    C("door", "a door", "门", "扇", "furniture", False, "🚪", (), ("房门",)),
    # From here on what the embedded painter does not know: see FIRST.
    C("sheep", "a sheep", "羊", "只", "animal", None, "🐑🐏", ("lamb",), ("绵羊", "小羊")),
    C("camel", "a camel", "骆驼", "头", "animal", False, "🐫🐪", (), ()),
    C("fox", "a fox", "狐狸", "只", "animal", False, "🦊", (), ("小狐狸",)),
    C("koala", "a koala", "考拉", "只", "animal", False, "🐨", (), ("树袋熊",)),
    C("dolphin", "a dolphin", "海豚", "只", "animal", False, "🐬", (), ()),
    C("crocodile", "a crocodile", "鳄鱼", "条", "animal", None, "🐊", ("alligator",), ()),
    C("giraffe", "a giraffe", "长颈鹿", "只", "animal", False, "🦒", (), ()),
    C("dragon", "a dragon", "龙", "条", "fantasy", False, "🐉🐲", (), ("神龙",)),
    C("unicorn", "a unicorn", "独角兽", "只", "fantasy", False, "🦄", (), ()),
    C("lantern", "a lantern", "灯笼", "盏", "festival", False, "🏮", ("red lantern",), ("红灯笼",)),
    C("pumpkin", "a pumpkin", "南瓜", "个", "festival", None, "🎃", ("jack-o'-lantern",), ("南瓜灯",)),
    C("redenvelope", "a red envelope", "红包", "个", "festival", False, "🧧", (), ()),
    C("firecracker", "a firecracker", "鞭炮", "个", "festival", False, "🧨", (), ("爆竹",)),
    C("mooncake", "a mooncake", "月饼", "块", "food", True, "🥮", (), ()),
    C("dumpling", "a dumpling", "饺子", "个", "food", True, "🥟", (), ("水饺",)),
    C("rice", "some rice", "米饭", "碗", "food", True, "🍚", (), ("白饭",)),
    C("noodles", "some noodles", "面条", "碗", "food", True, "🍜🍝", ("spaghetti",), ("拉面",)),
    C("candy", "a candy", "糖果", "颗", "food", True, "🍬", ("sweet",), ("糖",)),
    C("chili", "a chili pepper", "辣椒", "根", "vegetable", True, "🌶", ("hot pepper",), ()),
    C("tea", "some tea", "茶", "杯", "drink", None, "🍵", ("green tea",), ("绿茶",)),
    C("beer", "a beer", "啤酒", "杯", "drink", None, "🍺", (), ()),
    C("chopsticks", "some chopsticks", "筷子", "双", "object", False, "🥢", (), ()),
    C("backpack", "a backpack", "书包", "个", "object", False, "🎒", ("school bag",), ("背包",)),
    C("lock", "a lock", "锁", "把", "object", False, "🔒", ("padlock",), ("挂锁",)),
    C("tent", "a tent", "帐篷", "顶", "object", False, "⛺", (), ()),
    C("ring", "a ring", "戒指", "枚", "clothing", False, "💍", (), ("钻戒",)),
    C("microphone", "a microphone", "麦克风", "个", "device", False, "🎤🎙", (), ("话筒",)),
    C("headphones", "some headphones", "耳机", "副", "device", False, "🎧", ("headset",), ()),
    C("lightning", "a lightning bolt", "闪电", "道", "nature", False, "⚡", ("lightning",), ()),
    C("mapleleaf", "a maple leaf", "枫叶", "片", "plant", False, "🍁", (), ("红叶",)),
)
FIRST = 120  # things of the world's first version: all that the embedded painter knows
PLURAL = frozenset({"grapes", "cherries", "fries", "scissors", "glasses", "noodles", "chopsticks", "headphones"})
