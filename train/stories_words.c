// train/stories_words.c -- names, kinds of heroes, and the words that every story draws.
#include "train/stories_words.h"

#include <stddef.h>

const char story_boys[] =
    "{Tom|Ben|Max|Sam|Leo|Tim|Jack|Finn|Oscar|Hugo|Noah|Eli|Theo|Felix|Otto|Milo|Luke|Nico|Peter|Arlo|Rory|"
    "Toby|Jasper|Ned|Billy|Kit|Gus|Rafi|Omar|Paul|Ravi|Anton|Bruno|Emil|Hans|Jonah|Karl|Lars|Marco|Pip|"
    "Adam|Albert|Axel|Basil|Boris|Carl|Casper|Cyril|David|Dennis|Dirk|Edgar|Erik|Fabian|Frank|Fred|George|"
    "Gilbert|Harry|Henry|Igor|Ivan|Jacob|Joe|"
    "Julian|Kasimir|Leon|Linus|Louis|Marvin|Moritz|Nathan|Nils|Olaf|Oliver|Pablo|Philip|Quentin|Ralph|Robin|"
    "Simon|Stefan|Ted|Tobias|Victor|Walter|Willy|Xaver|Yuri|Zack}";
const char story_girls[] =
    "{Lily|Mia|Anna|Sue|Ella|Rosa|Nora|Ruby|Zoe|Ivy|Clara|Emma|Lucy|Tess|Molly|Daisy|Hazel|Poppy|Nina|Ada|"
    "Wren|Pearl|Iris|Maya|Amy|Bella|Cora|Dora|Elsa|Fay|Gita|Hanna|Ida|June|Kate|Lena|Mary|Olga|Rita|Vera|"
    "Agnes|Alice|Beth|Bianca|Carla|Celia|Chloe|Diana|Dolly|Edith|Elena|Eva|Fiona|Flora|Frida|Gina|Grace|"
    "Greta|Heidi|Helen|Ines|Irma|Jane|Jenny|Josie|Judy|"
    "Karin|Lara|Leah|Lotte|Luna|Magda|Mina|Nelly|Norma|Olive|Paula|Petra|Queenie|Rachel|Rose|Sally|Sofia|"
    "Stella|Tina|Trudy|Ursula|Viola|Wanda|Yara|Zelda}";

const struct story_kind story_kinds[] = {
    {"rabbit", '?', STORY_SMALL | STORY_FURRY, "a burrow under {a hill|an old oak|the roots of a tree}"},
    {"fox", '?', STORY_FURRY, "a den {at the edge of the wood|between two rocks|under a fallen log}"},
    {"bear", '?', STORY_STRONG | STORY_CLIMBS | STORY_FURRY,
     "a {warm|dry|small} cave {in the hills|near a waterfall}"},
    {"mouse", '?', STORY_SMALL | STORY_FURRY,
     "a hole {behind the kitchen wall|in an old barn|under the stairs of a mill}"},
    {"squirrel", '?', STORY_SMALL | STORY_CLIMBS | STORY_FURRY, "a hollow {oak|beech|tree in the park}"},
    {"hedgehog", '?', STORY_SMALL, "a {heap|bed} of {dry|brown} leaves {in a garden|behind a shed}"},
    {"duck", '?', STORY_SWIMS, "a nest {by the pond|among the reeds}"},
    {"frog", '?', STORY_SWIMS | STORY_SMALL, "a pond {full of lilies|behind the church}"},
    {"kitten", '?', STORY_SMALL | STORY_CLIMBS | STORY_FURRY, "a house with {a blue|a green|a yellow} door"},
    {"puppy", '?', STORY_FURRY, "a {kennel|basket} {on a farm|in a baker's house|near the station}"},
    {"turtle", '?', STORY_SWIMS, "a {small|sandy} cave {by the lake|at the river}"},
    {"pig", '?', 0, "a {clean|small} sty {on a farm|near the mill}"},
    {"goat", '?', STORY_CLIMBS | STORY_FURRY, "a {stone hut|meadow} {high in the mountains|on a steep hill}"},
    {"lamb", '?', STORY_FURRY, "a {green|wide} meadow {behind the village|with a white fence}"},
    {"pony", '?', STORY_STRONG | STORY_FURRY, "a {red|wooden} stable {near the road|behind the farm}"},
    {"otter", '?', STORY_SWIMS | STORY_FURRY, "a {hole|den} in the {river bank|bank of a stream}"},
    {"badger", '?', STORY_STRONG | STORY_FURRY,
     "a {deep|dry} {burrow|hole} {in the wood|under the old wall}"},
    {"elephant", '?', STORY_STRONG, "the {tall|yellow} grass {near a lake|at the edge of the jungle}"},
    {"monkey", '?', STORY_CLIMBS | STORY_FURRY, "a {big|tall} {fig|mango} tree"},
    {"giraffe", '?', 0, "a {park|garden|valley} with {many|tall} trees"},
    {"boy", 'm', 0, "a {small|white|wooden} house {at the end of the road|near the woods|on a hill}"},
    {"girl", 'f', 0, "a {small|white|wooden} house {at the end of the road|near the woods|on a hill}"},
    {"wolf cub", '?', STORY_FURRY, "a {dark|big} cave {in the forest|under the cliff}"},
    {"donkey", '?', STORY_STRONG | STORY_FURRY, "a {field|shed} {next to a windmill|beside the market}"},
};
const int story_kind_count = sizeof story_kinds / sizeof *story_kinds;

// In order: a pattern may use those above it.
const struct story_binding story_bindings[] = {
    {"color", "{red|blue|green|yellow|white|purple|orange|brown|black|pink|silver|golden}"},
    {"toy", "{ball|kite|drum|boat|top|doll|train|horse|bell|trumpet|sled|hoop}"},
    {"trinket", "{shell|feather|stone|button|ribbon|coin|pearl|ring}"},
    {"flower", "{roses|tulips|daisies|violets|poppies|lilies|sunflowers|bluebells}"},
    {"fruit", "{apple|cherry|plum|pear|berry|peach}"},
    {"skill", "{sing|whistle|dance|read|juggle|play the flute|play the drum|paint|tell "
              "stories|swim|skate|bake bread}"},
    {"plant", "{sunflower|pumpkin|bean|rose tree|carrot|melon|apple tree}"},
    {"thing", "{clock|music box|lamp|chair|toy train|wheelbarrow|radio|teapot}"},
    {"build", "{raft|tree house|kite|little cart|bird house|bench|bridge for ants|doll house}"},
    {"herb", "{mint|honey|sage|ginger|chamomile}"},
    {"day", "{Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday}"},
    {"time", "{one day|one morning|one fine morning|one afternoon|one cold day|one quiet day|early one "
             "[day]|on a [day] in {spring|"
             "autumn}|the next [day]|one windy morning|one bright [day]}"},
    {"family", "{mother|father|grandmother|grandfather|sister|brother|aunt|uncle}"},
    {"giver", "{mother|father|grandmother|grandfather|sister|brother|aunt|uncle}"},
    {"sky",
     "{the sun was shining|the sky was blue|the sky was gray|a soft wind was blowing|the birds were "
     "singing|the grass was wet|"
     "white clouds moved over the hills|it was still early|the air smelled of {rain|hay|flowers|bread}|the "
     "bells were ringing|the {leaves|fields} were {golden|green|wet}|the moon was still in the sky|a "
     "{rooster|crow|cuckoo} was calling|the {dew|mist} lay on the fields}"},
    {"sky.now", "{the sun is shining|it is raining|the wind is blowing|the bells are ringing|it is still "
                "early|the moon is in my window}"},
    {"feeling", "{happy|glad|proud|full of joy|as happy as could be|the happiest [kind] in the world}"},
    {"far", "{behind the hills|on the other side of the wood|past the mill|at the end of the valley|beyond "
            "the fields|two hours away|three villages away|near the old quarry|behind the railway|where the "
            "road ends|down by the harbor}"},
    {NULL, NULL},
};
