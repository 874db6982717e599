// train/stories_obstacles.c -- what stands in the way, and the ways out: a thing from home, a helper, or what the hero is like.
#include "train/stories_words.h"

#include <stddef.h>

const struct story_obstacle story_obstacles[] = {
    {"a wide river",
     "I cannot cross the river",
     "{the path came to an end.|suddenly there was water.} A {wide|deep|fast} river {ran across the way|lay "
     "in front of [hero.o]}, and the bridge "
     "{was gone|was broken}.",
     "[hero] put one foot into the water. It was {much too cold|too deep|much too fast}, and [he] jumped "
     "back.",
     STORY_SWIMS,
     0,
     {{"rope", "[he] tied one end of the rope to a {tree|thick branch}, took the other end and {swung over "
               "the water|flew over the river like a "
               "bird}."},
      {"long stick", "[he] {felt for the stones under the water|pushed into the water} with the long stick, "
                     "and step by step [he] {walked across|came "
                     "to the other side}."}},
     {{"beaver", "{Gnaw, gnaw, crash!|[helper] set to work with [h.his] sharp teeth.} Soon a tree {fell|lay} "
                 "{right across the river|from one bank to "
                 "the other}, and [hero] walked over it."},
      {"{swan|otter|big turtle}", "\"{Climb on my back|Hold on to my back},\" said [helper]. [h.He] swam "
                                  "{slowly|carefully} to the other side, and [hero] "
                                  "{did not even get wet|got only wet feet}."},
      {"fisherman", "[helper] had a {small|green|leaky} boat. [h.He] {rowed|took} [hero.o] over the river, "
                    "and they {talked about fish|sang} all the way."}},
     {{"clever", "there were {many flat stones|big stones} on the bank. [hero] threw them into the water, "
                 "one behind the other, and walked across with dry "
                 "feet."},
      {"patient", "[hero] sat down and waited. {At noon|After some hours} the water had gone down, and [he] "
                  "could {walk through it|cross on the stones}."},
      {"brave", "[hero] {took a deep breath|counted to three} and jumped from stone to stone. {One, two, "
                "three, four|the last jump was the longest}, and "
                "[he] was on the other side!"}}},
    {"a dark wood",
     "the wood is so dark",
     "the way went into a {dark|deep, dark} wood. {The trees stood so close that no light came "
     "through.|Something cracked. Something howled.}",
     "[hero] walked {ten|a few} steps, {bumped into a tree|fell over a root} and ran back to the light.",
     0,
     0,
     {{"lantern", "[he] lit the lantern, and the {shadows|dark} jumped back. What had looked like a monster "
                  "was only {an old tree|a bush}, and [hero] {walked "
                  "through the wood|found the path}."},
      {"box of matches", "[he] lit one match after the other, and with the last one [he] {saw the end of the "
                         "wood|came out on the other side}."}},
     {{"owl", "[helper] flew ahead from tree to tree and called \"{this way|over here}!\", and [hero] "
              "followed [h.his] voice {to the other side|out of the "
              "wood}."},
      {"{firefly|glow worm}", "[helper] called all [h.his] {friends|cousins}. A hundred little lights {shone "
                              "on the path|showed the way}, and the wood was {almost|} "
                              "beautiful."},
      {"bat", "\"I can see with my ears,\" said [helper]. {[h.He] flew in front of [hero.o]|[hero] held on "
              "to [h.his] wing}, and they did not touch a single tree."}},
     {{"brave", "[hero] {sang as loudly as [he] could|held [his] head up} and walked on, and {nothing "
                "happened at all|soon there was light again}."},
      {"careful", "[hero] felt the way from tree to tree, {slowly, slowly|without a hurry}, until {the wood "
                  "came to an end|it grew light again}."},
      {"curious", "\"What is it that cracks there?\" thought [hero] and went to look. It was only {a little "
                  "mouse|two squirrels at play}, and [he] was not afraid any "
                  "more. {[he] walked through the wood.|}"}}},
    {"a great storm",
     "I cannot go on in this storm",
     "the sky turned black. {Thunder rolled,|Lightning flashed,} and {rain|hail} fell so hard that [hero] "
     "could not see the way.",
     "[hero] ran on, but {the wind blew [him] back|after ten steps [he] was wet to the bone}.",
     0,
     0,
     {{"umbrella", "[he] opened the big umbrella. {The rain drummed on it|It was like a little house}, and "
                   "[hero] {walked on|kept walking} with dry ears."},
      {"warm coat", "[he] put on the warm coat, pulled the {hood|collar} up and {walked on|went on}, and the "
                    "rain ran off it."}},
     {{"{mole|badger}", "\"Come into my {house|burrow}!\" called [helper]. They {drank tea|played cards} "
                        "under the ground until the storm was over."},
      {"woman", "[helper] opened the door of a {tiny|warm} hut. There was {hot soup|a fire and a cat}, and "
                "when [hero] had eaten the storm had gone."},
      {"bear", "[helper] {stood over [hero.o] like a roof|let [hero.o] sit under [h.his] thick fur} until "
               "the last drop had fallen."}},
     {{"patient", "[hero] crept under a big {leaf|rock} and waited. {The storm shouted itself tired|In the "
                  "end every storm is over}, and the sun came back."},
      {"stubborn", "\"I will not turn back,\" said [hero]. {Step by step|With closed eyes} [he] walked "
                   "against the wind, until the {storm|rain} gave up."},
      {"clever", "[hero] saw {an old barrel|a hollow tree} at the side of the road. [he] crept into it, {and "
                 "there it was dry|pulled some leaves over the hole} and "
                 "{slept|sat there} until the storm was over."}}},
    {"an angry goose",
     "the goose does not let me pass",
     "an angry goose stood {on the little bridge|in front of the gate}. \"{Nobody gets past me|Go away},\" "
     "{hissed|shouted} the goose{ and flapped its wings|}.",
     "[hero] tried to {run past|sneak by}, but the goose {bit [his] leg|was faster}.",
     STORY_STRONG,
     0,
     {{"honey cake", "[he] broke the honey cake in two and gave {one half|the bigger half} to the goose. The "
                     "goose {ate|swallowed} it, looked {less angry|almost "
                     "friendly} and {stepped aside|moved over}."},
      {"bag of corn", "[he] threw {a little of the corn|some corn} into the grass. The goose {ran after "
                      "it|began to eat}, and [hero] went past."}},
     {{"goat", "[helper] {lowered [h.his] horns|stamped once}. \"{Let my friend pass|That is enough},\" "
               "[h.he] said. The goose looked at the horns and {stepped aside|"
               "became very polite}."},
      {"farmer", "[helper] {whistled|clapped [h.his] hands}. \"{Come here, you silly bird|Dinner},\" [h.he] "
                 "called, and the goose ran off at once."},
      {"swan", "[helper] bent [h.his] long neck and spoke to the goose in bird language. {Nobody knows what "
               "[h.he] said.|It took only a minute.} The goose {bowed and made "
               "way|let them pass}."}},
     {{"kind", "\"Why are you so angry?\" asked [hero]. \"I have a thorn in my foot,\" said the goose{ in a "
               "small voice|}. [hero] {pulled|took} it out, and the goose "
               "{cried with joy|thanked [him]} and let [him] pass."},
      {"cheerful", "[hero] {told a joke|made a funny face}. The goose tried not to laugh, but then it "
                   "laughed so hard that it {fell into the grass|had to sit down}, and [hero] "
                   "went by."},
      {"brave", "[hero] stood {quite still|very straight} and looked the goose in the eye. {Nobody moved.|It "
                "took a long time.} Then the goose {looked away|sighed} and made way."}}},
    {"a steep hill",
     "the hill is too steep for me",
     "the path went up a hill, {steeper than a roof|as steep as a wall}. The {top|end} was {far away|in the "
     "clouds}.",
     "[hero] climbed a little, {slipped|lost [his] hold} and {rolled down again|landed in the grass}.",
     STORY_CLIMBS,
     0,
     {{"rope", "[he] threw the rope around a {rock|tree stump} far above and pulled [himself] up, {bit by "
               "bit|hand over hand}."},
      {"pair of boots", "[he] put on the boots. {They had nails under them|They did not slip}, and [hero] "
                        "walked up {as if there were stairs|step by step}."}},
     {{"goat", "[helper] knew a {secret|hidden} path that went around the hill like a {ribbon|snail's "
               "house}, and [hero] {followed [h.him]|walked behind [h.him]} to the top."},
      {"{donkey|horse}", "\"Sit on my back,\" said [helper]. [h.He] carried [hero.o] up {without stopping "
                         "once|puffing and laughing}."},
      {"eagle", "[helper] {took [hero.o] in [h.his] claws|let [hero.o] hold [h.his] feet}, and they flew up, "
                "{over the trees|so fast that the wind sang}."}},
     {{"patient", "[hero] took one {small|little} step, rested, and took one more. {The sun moved across the "
                  "sky|It took all day}, and then [he] stood on the top."},
      {"stubborn", "[hero] fell down {three|five|seven} times. [he] got up {four|six|eight} times. {In the "
                   "end the hill lost|At last [he] reached the top}."},
      {"clever", "[hero] did not go {straight up|up straight}. [he] walked from side to side, {like a "
                 "snake|in a zigzag}, and that way the hill was not steep at all."}}},
    {"a fallen tree",
     "a tree has fallen across the path",
     "a {huge|big} tree had fallen across the path. {On the left were rocks|On one side was a deep hole}, "
     "and {on the right was a swamp|on the other a wall}.",
     "[hero] pushed {with all [his] strength|until [his] face was red}, but the tree {did not move|lay "
     "still}.",
     STORY_SMALL | STORY_STRONG | STORY_CLIMBS,
     0,
     {{"saw", "[he] took out the saw. {It took an hour|Rip, rap, rip, rap}, and then there was a {gap|door} "
              "in the tree{, just big enough for [him]|}."},
      {"shovel",
       "[he] dug with the shovel until there was a {tunnel|way} under the tree, and crept through it."}},
     {{"{ox|horse|elephant}", "[helper] put [h.his] head against the tree and pushed. {Slowly|With a groan} "
                              "it rolled to the side, and the path was free."},
      {"beaver", "[helper] laughed. \"{That is only breakfast|I like that kind},\" [h.he] said, and "
                 "{gnawed|bit} through the tree {in no time|before [hero] had counted to a hundred}."},
      {"woodcutter", "[helper] swung [h.his] axe. {Chop, chop, chop|The chips flew}, and [hero] could go on{ "
                     "and took a chip as a memory|}."}},
     {{"clever", "[hero] found {a strong branch|an iron bar}, put it under the tree and leaned on it. The "
                 "tree {rolled over|turned}, and the path was free."},
      {"patient", "[hero] broke off one {twig|branch} after the other, {a hundred of them|for hours}, until "
                  "there was a hole to creep through."},
      {"curious", "[hero] looked {into the tree|closely at the tree}. It was hollow! [he] crept {in at one "
                  "side and out at the other|through it like through a tunnel}."}}},
    {"a locked gate",
     "the gate is locked",
     "[hero] came to a {high|rusty|heavy} gate. It was locked, and the wall was {too high to climb|high on "
     "both sides}.",
     "[hero] {knocked|called} and {knocked|called} again, but nobody {came|heard [him]}.",
     STORY_CLIMBS,
     0,
     {{"old key", "[he] put the old key into the lock and turned it. {Click!|It squeaked.} {It fitted|Nobody "
                  "could have guessed that it would fit}, and the gate swung open."},
      {"little file",
       "[he] {rubbed|filed} at the rusty lock with the little file until it {broke|fell to the ground}."}},
     {{"{crow|magpie}", "[helper] flew over the wall and came back with {something shiny|the key} in [h.his] "
                        "beak. [hero] {turned it in the lock|opened the gate}, and in [he] went."},
      {"mouse", "[helper] {slipped under the gate|went through a tiny hole}. From inside [h.he] {pushed back "
                "the bolt|pulled the bolt with [h.his] tail}, and the gate was open."},
      {"gatekeeper", "[helper] had a hundred keys on a ring. {The last one was the right one|The ninth one "
                     "fitted}, and the gate swung open."}},
     {{"clever", "\"Where would I hide a key?\" thought [hero]. [he] looked under the {flower pot|mat|big "
                 "stone}, and there it was!"},
      {"patient", "[hero] sat down {in front of the gate|and waited}. In the evening {a maid came to shut "
                  "the windows|the baker came with the bread}, and the gate was opened."},
      {"careful", "[hero] looked at every {stone|board} of the wall. One was loose. [he] {pulled it "
                  "out|pushed it aside}, {crept through the hole|went through}, and put it back."}}},
    {"a thick fog",
     "I cannot see anything in this fog",
     "fog came {down from the hills|up from the fields}, {white and thick|as thick as milk}, until [hero] "
     "could not see [his] own {feet|nose}.",
     "[hero] walked on, and after {a while|an hour} [he] was {back at the same stone|where [he] had been "
     "before}.",
     0,
     0,
     {{"whistle", "[he] blew the whistle {three times|as hard as [he] could}. Somewhere {a dog barked|a "
                  "farmer shouted} in answer, and [hero] walked towards the sound until [he] "
                  "{was out of the fog|stood on the road again}."},
      {"compass", "[he] looked at the compass and always walked {to the north|to the west}, and {soon|after "
                  "a while} the fog {was behind [him]|grew thin}."}},
     {{"{dog|goose}", "[helper] had been here {a thousand times|every day}. \"{Follow my nose|Stay close to "
                      "me},\" [h.he] said, and led [hero.o] out of the fog."},
      {"snail", "\"I know {each stone|this road},\" said [helper]. \"I look at it slowly.\" They walked "
                "{very|} slowly, but they did not go wrong once."},
      {"shepherd", "[helper] rang the bell of [h.his] {oldest|first} sheep. [hero] {followed the bell|held "
                   "on to the wool} until the sun came through."}},
     {{"careful", "[hero] {laid a stone|made a mark} at each step, so that [he] could not walk in a circle, "
                  "and {came out of the fog|found the way}."},
      {"patient", "[hero] {sat down on a stone|wrapped [himself] in leaves} and waited until the wind had "
                  "{blown|swept} the fog away."},
      {"cheerful", "[hero] began to sing. An echo {answered|sang back} from the right, so there was a wall "
                   "of rock, and along that wall [he] found the way."}}},
    {"a deep bog",
     "I am stuck in the mud",
     "the ground grew {soft|wet}. {Squelch! Squelch!|Plop!} [hero] {sank in|was stuck} up to the knees.",
     "[hero] pulled and kicked, but {that made it worse|[he] only sank deeper}.",
     STORY_SWIMS,
     0,
     {{"rope", "[he] threw the rope over a branch and pulled, {pulled and pulled|until the mud let go with a "
               "pop}. Then [he] went around the bog."},
      {"wooden board", "[he] laid the wooden board on the mud, crept onto it and {pushed [himself] "
                       "along|slid} to {dry|firm} ground."}},
     {{"{donkey|ox|stork}", "[helper] {held out [h.his] tail|came as near as [h.he] could}. [hero] took "
                            "hold, and {plop|with one pull} [he] was {free|on dry ground}."},
      {"frog", "[helper] called [h.his] {brothers and sisters|cousins}. They brought leaves, {ten|a hundred} "
               "big leaves, and over the leaves [hero] {crept|walked} out of the bog."},
      {"milkmaid", "[helper] took off [h.his] long {apron|scarf} and threw one end to [hero.o]. {\"Hold "
                   "tight!\" [h.he] cried.|} With a pop the mud let go."}},
     {{"clever", "[hero] lay down {flat on [his] belly|like a plank} and {rolled|swam} over the mud to dry "
                 "ground. {[he] looked like a chocolate cake.|}"},
      {"patient", "[hero] {stopped kicking|kept still}. Then [he] moved one toe, then one foot, {very "
                  "slowly|bit by bit}, until both feet were free."},
      {"stubborn", "[hero] {pulled at the grass|grabbed a root} and did not let go, {not even when [his] "
                   "arms hurt|for a whole hour}, until [he] was out."}}},
    {"a thorny hedge",
     "the thorns do not let me through",
     "a hedge {grew across the path|stood in the way}, {full of thorns|with thorns as long as needles}. It "
     "had no beginning and no end.",
     "[hero] tried to push through. {Ouch!|The thorns held [him] fast.} [he] came back with {three|five} "
     "scratches.",
     STORY_SMALL,
     0,
     {{"blanket", "[he] laid the blanket over the thorns and {climbed|rolled} across it, {as over a soft "
                  "bridge|without one scratch}."},
      {"pair of gloves", "[he] put on the gloves and {bent the branches apart|opened the hedge like a "
                         "curtain}, and went through."}},
     {{"mole", "[helper] dug. Earth flew. {Soon|After a while} there was a tunnel under the hedge{ that "
               "smelled of roots|}, and [hero] {crept|walked} through it."},
      {"{hedgehog|wren}", "\"I was born in this hedge,\" said [helper]. [h.He] knew the only hole, {behind a "
                          "stone|near the ground}, and it was just big enough."},
      {"gardener", "{Snip, snip, snip!|[helper] took [h.his] big scissors.} \"{Every hedge can have a "
                   "door|It needed a haircut},\" said [helper], and [hero] went through."}},
     {{"careful", "[hero] bent away one twig after the other, {slowly|with two fingers}, and came through "
                  "without {a scratch|waking a single bee}."},
      {"patient", "[hero] walked along the hedge, {on and on|for an hour}, until there was {a gap|a place "
                  "where it was low}."},
      {"stubborn", "\"{Thorns or no thorns|It is only a hedge},\" said [hero]. {It hurt|[he] got many "
                   "scratches}, but [he] came out on the other side."}}},
    {"a crossroads without a sign",
     "I do not know which way to go",
     "the path split into {two|three}, and there was no sign. All the ways {looked the same|went into the "
     "hills}.",
     "[hero] took the first one. {It ended at a rock|It led back to where [he] had started}, and [he] had to "
     "begin again.",
     0,
     0,
     {{"map", "[he] opened the map, turned it {around|the right way up} and {put [his] finger on the "
              "crossroads|followed the lines}. Then [he] knew which way to take."},
      {"compass", "\"[place] must be {in the east|in the south},\" thought [hero], looked at the compass, "
                  "and took the right way."}},
     {{"{snail|tortoise}", "\"I have walked all these ways,\" said [helper]. \"It took me {twenty|fifty} "
                           "years. Take the one {on the left|with the white stones}.\""},
      {"{crow|swallow}", "[helper] flew up high and looked around. \"I can see it!\" [h.he] called. \"{The "
                         "middle one|To the right}!\""},
      {"postman", "[helper] {laughed|took off [h.his] cap}. \"I go there every {day|week},\" [h.he] said. "
                  "\"{Come with me|I will show you}.\" And soon they were on the right way."}},
     {{"clever", "[hero] looked at the ground. On one of the ways there were many {wheel marks|footprints}, "
                 "and that was the one [he] took."},
      {"curious", "[hero] walked a little of each way and {sniffed|listened}. Only one {smelled "
                  "right|sounded right}, and [he] followed it."},
      {"patient", "[hero] waited {at the crossroads|on a stone} until somebody came by, {a boy with a cow|an "
                  "old man with a cart}, who pointed out the way."}}},
    {"deep snow",
     "the snow is too deep",
     "it began to snow. {It snowed and snowed|Big flakes fell}, until the snow was {as high as [his] "
     "chest|deeper than [he] was tall}.",
     "[hero] jumped into it and {was gone up to the ears|had to be quick to get out again}.",
     0,
     STORY_WINTER,
     {{"shovel", "[he] took the shovel and {dug a path|threw the snow aside}, {one step long, then ten|left "
                 "and right}, until [he] was through."},
      {"sled", "[he] sat down on the sled and {slid over the snow|flew down the slope}, {faster than a "
               "bird|with a long cry of joy}."}},
     {{"{stag|elk}", "[helper] walked in front with [h.his] long legs and made a {track|path}, and [hero] "
                     "walked {in it|behind [h.him]}."},
      {"polar bear", "[helper] {rolled|lay down and rolled} through the snow like a big ball, and behind "
                     "[h.him] the way was {flat|free}."},
      {"snow hare", "[helper] gave [hero.o] two flat {pieces of bark|boards} for [his] feet. With them [he] "
                    "walked on top of the snow{, just like [helper]|}."}},
     {{"stubborn", "[hero] stamped and stamped, {step by step|meter by meter}, and {did not stop before|did "
                   "not look up until} [he] was through."},
      {"patient", "[hero] {built a little house of snow|made a fire} and waited. In the night it grew very "
                  "cold, and in the morning the snow was hard enough to walk on."},
      {"cheerful", "[hero] {made a game of it: ten jumps, one snowball, ten jumps, one snowball. After a "
                   "hundred snowballs|sang a song with a hundred verses and jumped at each of them. When the "
                   "song was over} [he] was through."}}},
};
const int story_obstacle_count = sizeof story_obstacles / sizeof *story_obstacles;
