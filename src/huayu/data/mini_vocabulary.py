"""The vocabulary of the embedded chat model, as a file in the published form: one token a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from huayu.data import answers, questions, world
from huayu.data import wordings_unknown as unknowns
from huayu.data.art_styles import STYLES

SPECIAL = ("<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>", "<option>", "<eod>")
FIELDS = (
    "image",
    "image_2",
    "image_3",
    "image_4",
    "context",
    "question",
    "answer",
    "input",
    "prompt",
    "User",
    "AI",
    ": ",
    "：",
    "User: ",
    "AI: ",
)
MARKS = "，。？！、；：“”‘’（）《》…—·"
# Frequent characters, so that a free question is read in characters of its own rather than as one unknown word.
HAN = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家"
    "种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十"
    "民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯"
    "月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女"
    "变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基"
    "眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共确传师观清今"
    "切院让识候带导争运笔算联完红办快早黑步往亲句吃喝包绿青灰紫粉橙棕蓝黄圆方块甜苦酸辣热冷春夏秋冬风雨雪花草树叶根木"
    "石鸟虫鱼兽猫狗鸡鸭鹅牛羊兔鼠虎狼龙蛇猴猪爸妈哥姐弟妹爷奶孩朋友男先您请谢再见哪谁怎吗呢吧啊呀哦嗯左右旁近远轻快慢"
    "新旧美丑胖瘦深浅厚薄宽窄飞跑跳唱画读写玩睡坐站拿买卖穿戴洗床桌椅窗灯杯碗盘刀叉筷勺锅车船桥街店校医饭菜肉蛋奶茶酒"
    "糖盐油米面汤衣裤鞋帽裙袜雷星云河湖田城乡村号钟秒周岁六七八九零百千亿半双只张位辆棵朵片"
)
# Frequent English words beside those of the world.
ENGLISH = (
    "about above after again all almost also always another any away back bad because before behind best better "
    "between both boy bring but buy by call came child children city clean close come could dark day did different "
    "does done down draw drink drive each easy end enough even every family far fast feel few first five food for "
    "found four from full funny get girl give go got had hand hard has her here him his home hope hot hour idea if "
    "into just keep kind know last late learn let letter life light like little live long look lot made man may "
    "maybe mean more most mother move much must my near need never new next night nice nothing now number off often "
    "old once only open or other our out over own part pay person place play point put question read real right "
    "same saw second seen set shall she should show side since sit six sky small smile some someone soon speak "
    "start stay still stop such sun take talk than that their them then these they thing think those thought time "
    "together too top toward true try turn until up us use used walk wall want warm was way week well went were "
    "where which while white why wish word work would wrong year yellow yes yet young your zero animal apple nobody "
    "sentence short simple correct mistake sure answer english chinese"
)


def texts(tongue: str) -> Iterator[str]:
    """Everything that questions and answers in this language can be made of."""
    for table in (questions.TRAIN, questions.HELD):
        for by_tongue in table.values():
            yield from by_tongue[tongue]
    for words in (unknowns.UNKNOWN, unknowns.UNKNOWN_HELD, unknowns.NOUNS, unknowns.NOUNS_HELD, unknowns.CHAFF):
        yield from words[tongue]
    concepts = (world.OUTSIDE, *range(len(world.CONCEPTS)))
    for pair in pairwise(concepts):
        yield answers.everything(pair, tongue)
        yield answers.name(pair[1:], tongue)
        yield answers.where((1, 1), pair[1], tongue)
        yield answers.place("left", pair[1], tongue)
        for there in (True, False):
            yield answers.yesno(pair[1], there, tongue)
        if world.CONCEPTS[pair[1]].edible is not None:
            yield answers.edible(pair[1], tongue)
        yield answers.category(pair[1], tongue)
        yield answers.which_picture(pair[1], False, False, tongue)
        yield answers.festival(pair[1], tongue)
        yield answers.use(pair[1], tongue)
    for skill in answers.FIXED:
        yield answers.fixed(skill, tongue)
    for number in range(len(STYLES)):
        yield answers.style(number, tongue)
    for number in range(1, 5):
        yield answers.count(number, tongue)
    for colour in range(len(world.BACKGROUNDS)):
        yield answers.background(colour, tongue)
        yield answers.describe(colour, [0, 1, 2], tongue)
        yield answers.same_ground(colour, 0, tongue)
    for both in (True, False):
        yield answers.which_picture(0, both, True, tongue)
        yield answers.which_picture(0, True, both, tongue)
        yield answers.more_things(1, 1 + both, tongue)
    yield answers.more_things(2, 1, tongue) + answers.both_things([0], [1], tongue)
    yield from questions.NTH[tongue]
    for row in answers.REGIONS.values():
        yield from (cell[tongue == "en"] for cell in row)
    for side in answers.SIDES.values():
        yield from side[2:] if tongue == "en" else side[:2]


def tokens() -> list[str]:
    """The lines of the file, in order, without repeats."""
    found = dict.fromkeys((*SPECIAL, *(chr(code) for code in range(33, 127)), *FIELDS, *MARKS))
    first: dict[str, None] = {}
    inner: dict[str, None] = {}
    names = [name for concept in world.CONCEPTS for name in (concept.en, *concept.aliases_en)]
    for text in (*texts("en"), *names):
        spoken = re.findall(r"[A-Za-z][A-Za-z'-]*", re.sub(r"\{\w+\}", "", text))
        if spoken and not text.startswith("{"):
            first.update(dict.fromkeys((spoken[0].capitalize() if spoken[0] != "T-shirt" else spoken[0], spoken[0])))
            first[spoken[0][0].lower() + spoken[0][1:]] = None
        inner.update(dict.fromkeys(spoken))
    first.update(dict.fromkeys(("Is", "Are", "is", "are", "Which", "which")))
    found.update(dict.fromkeys(first))
    found.update(dict.fromkeys(f" {word}" for word in inner))
    found.update(dict.fromkeys(f" {word}" for word in ENGLISH.split()))
    characters = {char: None for text in texts("zh") for char in text}
    for concept in world.CONCEPTS:
        characters.update(dict.fromkeys("".join((concept.zh, *concept.aliases_zh))))
    for part in ("".join(characters), HAN):
        found.update(dict.fromkeys(char for char in part if ord(char) > 127))
    return list(found)


def build(path: str | Path) -> int:
    """Write the vocabulary file; the number of tokens. Source: spec viscpm §2.1."""
    lines = tokens()
    Path(path).write_bytes("\n".join(lines).encode())
    return len(lines)
