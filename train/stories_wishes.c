// train/stories_wishes.c -- what heroes want: how it came about, where it leads, what becomes of it.
#include "train/stories_words.h"

const struct story_wish story_wishes[] = {
    {"to see the sea", "the sea",
     "{[his] [giver] had|an old sailor had|a seagull had} {once|often} told [hero.o] about the {big "
     "blue|wide|salty} water {that had no "
     "end|and the white waves}.",
     "There it was! The sea was {bigger than the sky|so big that [he] could not see the other side|blue and "
     "green and full of light}. "
     "[hero] ran down to the {sand|water} and let the waves {tickle [his] feet|wash over [his] toes}.",
     "[He] put a [color] shell into [his] {bag|pocket} {to remember the day|to show it at home}.",
     "had seen the sea", 0},
    {"to count the stars from the top of the highest hill", "the top of the highest hill",
     "At home {the trees hid half the sky|there was too much light}, and [he] could never see more than "
     "{nine|ten|twenty} stars.",
     "The {night|sky} was clear. [hero] lay down in the grass and {began to count|counted}: one, two, "
     "three... There were {so many|more than "
     "[he] had numbers for}. {A star fell, and [he] closed [his] eyes.|[he] counted until [he] fell asleep.}",
     "In the morning the sun woke [him], and [he] {walked home singing|ran all the way home}.",
     "had counted the stars", 0},
    {"to have a [color] [toy]", "the toy maker's shop",
     "{[he] had seen one in a dream.|every other child in the village had a toy, but [hero] had none.|[his] "
     "cousin had one and would not share "
     "it.} {[he] thought about it all day long.|}",
     "The toy maker was {an old man with kind eyes|a small woman with big glasses}. \"{I have no money|I "
     "cannot pay},\" said [hero]. \"But I "
     "can {work|help}.\" So [he] swept the floor {until it shone|from one wall to the other}, and the toy "
     "maker gave [him] the [color] [toy].",
     "[hero] {played with it every day|never let the [color] [toy] out of [his] sight|took the [color] [toy] "
     "to bed that night}.",
     "had a [color] [toy]", 0},
    {"to find a present for [his] [family]", "the market",
     "The next day was the birthday of [his] [family], and [hero] {had nothing to give|had forgotten all "
     "about it}.",
     "The market was full of {people|noise} and {colors|good smells}. [hero] looked at everything. {At "
     "last|then} [he] saw a [color] "
     "[trinket]. \"That is just right,\" [he] said{, and paid with [his] only coin| and gave the seller a "
     "song for it}.",
     "The next day [his] [family] {opened the little box|held the [color] [trinket] up to the light} and "
     "{smiled|laughed with joy}.",
     "had found a present", 0},
    {"to bake a [fruit] cake", "the old orchard",
     "It was {the best cake in the world|the cake that [his] [family] liked best}, but there was not one "
     "[fruit] in the house{|, and the "
     "baker had none either}.",
     "In the orchard the branches were {heavy|bent} with fruit. [hero] {filled [his] basket to the "
     "top|picked until [his] basket was full}{|, "
     "and ate one, and then one more}.",
     "That evening the {whole house|kitchen} smelled of [fruit] cake, and everybody got a {big|warm} piece.",
     "had baked a [fruit] cake", STORY_SUMMER},
    {"to learn to [skill]", "the house of the old teacher",
     "{the others laughed because [he] could not do it.|[he] tried and tried, but alone [he] could not do "
     "it.|[his] [family] could do it so "
     "well.} An old teacher who lived [far] {could show anyone|knew how it was done}.",
     "The old teacher {looked at [hero.o] for a long time|gave [hero.o] a cup of tea}. \"{The first time it "
     "is hard|do not be afraid of "
     "mistakes},\" said the teacher. \"The tenth time it is easy.\" [hero] tried {ten times|all afternoon}, "
     "and then, {suddenly|at last}, "
     "[he] could [skill].",
     "From that day on [he] could [skill] {better than anyone at home|whenever [he] was sad|every evening}.",
     "had learned to [skill]", 0},
    {"to find [his] lost [color] [toy]", "the old barn",
     "[he] had looked under the bed, {behind the door|in the garden} and {in the kitchen|on the roof}, but "
     "it was gone. A {crow|sparrow|"
     "neighbor} {said that|thought that} {the wind had carried|a magpie had taken} it to the old barn.",
     "In the barn it was {dark and dusty|quiet}. [hero] looked behind the {hay|wheels} and under the "
     "{boards|cart}. Something [color] was "
     "{shining|lying} in the corner. It was the [toy]!",
     "[He] {wiped off the dust|hugged it} and did not let it go {all the way home|until [he] was home}.",
     "had found the [color] [toy]", 0},
    {"to run in the big race", "the race in the meadow",
     "{Nobody thought that [he] was fast enough.|All the fast runners would be there.} \"{You will come in "
     "last|It is too far for you},\" "
     "{the others|the neighbors} said.",
     "The runners were already {standing in a row|waiting}. \"{One, two, three, go|ready, steady, go}!\" "
     "[hero] ran {as fast as [he] could|"
     "faster than ever before}. [he] was not the first and not the last, but [he] {did not stop|ran all the "
     "way to the end}.",
     "Everybody clapped, and [hero] got a [color] ribbon.", "had run in the big race", 0},
    {"to visit [his] friend [friend]", "the house of [friend]",
     "[friend] had moved away {in the winter|a year ago} and lived [far] now. {Without [friend] the games "
     "were only half as much fun.|[hero] "
     "missed [friend] every day.}",
     "[hero] knocked {three times|at the [color] door}. The door opened, and there stood [friend]. \"{You "
     "came|It is you}!\" {cried|shouted} "
     "[friend], and the two {hugged|jumped up and down}{| until they were dizzy}.",
     "They {played until it was dark|shared a bowl of soup} and {made a plan for the next visit|talked half "
     "the night}.",
     "had visited [friend]", 0},
    {"to bring a letter to [his] [family]", "the house of [his] [family]",
     "{the letter had come to the wrong house|the postman was ill}, and it {looked important|had a [color] "
     "stamp}. \"{It must get there "
     "today|somebody is waiting for it},\" thought [hero].",
     "[hero] {rang the bell|knocked} and held up the letter. [his] [family] {read it twice|opened it at "
     "once}. \"{This is good news|What a "
     "wonderful letter},\" [his] [family] said. \"Your cousins are coming {for the summer|to stay with "
     "us}!\"",
     "They {sat down together|had tea with biscuits} and wrote an answer.", "had brought the letter", 0},
    {"to build a [build]", "the old saw mill",
     "[he] had drawn it {on a big sheet of paper|in the sand}, but there was no wood at home. At the old saw "
     "mill there {was wood enough|were "
     "boards that nobody needed}.",
     "The man at the mill {scratched his head|laughed}. \"Take what you can carry,\" he said. [hero] chose "
     "{four|five|six} {good|smooth} boards{ "
     "and a bag of nails|}.",
     "For {two|three} days {there was hammering|[he] sawed and hammered}, and then the [build] was "
     "{ready|done}.",
     "had built a [build]", 0},
    {"to grow a [plant]", "the gardener's hut",
     "[he] had {a pot full of earth|a small garden} but no seed. The gardener, who lived [far], had seeds "
     "{for every plant in the world|in a "
     "hundred little boxes}.",
     "The gardener opened a {drawer|little box}. \"{Water it every day|Give it sun and water}, and be "
     "patient,\" said the gardener, and put a "
     "seed {into [his] hand|in front of [him]}. [hero] {held it tight|carried it like a treasure}.",
     "[He] watered it every {day|morning}, and after {three|four|five} weeks a [plant] stood {in the sun|in "
     "front of the window}.",
     "had grown a [plant]", STORY_SUMMER},
    {"to mend the broken [thing]", "the workshop of the clever smith",
     "It had {fallen from the table|stopped working}, and [his] [family] was {very sad|upset} about it. "
     "{\"Nobody can mend that,\" said the "
     "neighbors.|It had been in the family for a hundred years.}",
     "The smith turned the [thing] {over and over|this way and that}. \"{One screw is missing|It only needs "
     "oil},\" she said. {Tick, tap, "
     "click!|Together they worked for an hour.} The [thing] was {as good as new|whole again}.",
     "[his] [family] {could not believe it|laughed with joy} and {put it in the best place of the "
     "house|thanked [him] again and again}.",
     "had mended the [thing]", 0},
    {"to find a friend", "the new house",
     "{all the others on the street were grown up.|[hero] had to play alone every day.} Then somebody said "
     "that a new family lived [far], in a "
     "{house with a [color] roof|[color] house}.",
     "In front of the house sat a little {[friend.kind]|[friend.kind] with a [color] hat}. \"{Hello|Good "
     "day},\" said [hero]. \"Do you want to "
     "play?\" \"Yes!\" said the [friend.kind]. \"My name is [friend].\" And they {played hide and seek|built "
     "a tower of stones|ran after each "
     "other} {all afternoon|until supper}.",
     "After that [friend] and [hero] {met every day|were never alone again}.", "had found a friend",
     STORY_LONELY},
    {"to go to the fair", "the fair",
     "It came only once a year, with {lights and music|a big wheel and candy}. {[hero] had saved three "
     "coins.|[hero] had never been there.}",
     "{Music came from everywhere.|The lights were everywhere.} [hero] rode on {the big wheel|a wooden "
     "horse} and ate {a sugar apple|pink "
     "candy}. {High up in the air [he] could see [his] home.|[he] laughed until [his] belly hurt.}",
     "[He] came home late, with sticky {fingers|cheeks} and a [color] balloon.", "had been at the fair", 0},
    {"to find [herb] for [his] sick [family]", "the garden of the wise woman",
     "[his] [family] had a bad cough and had to stay in bed. \"{Tea with [herb] would help|Only [herb] can "
     "help},\" said the doctor, but there "
     "was none {left|in the village}.",
     "The wise woman {nodded|listened}. \"You came such a long way for your [family],\" she said. \"Take as "
     "much [herb] as you need.\" [hero] "
     "{thanked her|bowed} and {ran home|hurried back}.",
     "[his] [family] drank the hot tea and {was well again the next morning|slept, and the cough went away}.",
     "had found the [herb]", 0},
    {"to pick [color] [flower]", "the secret meadow",
     "[his] [family] {had once loved them|talked about them every spring}, but near the house {they did not "
     "grow|there was only grass}.",
     "The meadow was full of [flower]. [hero] {picked seven of the most beautiful ones|made a big bunch} and "
     "{left the others for the bees|tied "
     "them with grass}.",
     "At home [he] put the [color] [flower] into a glass, and [his] [family] {smelled them with closed "
     "eyes|was happy for a week}.",
     "had picked the [color] [flower]", STORY_SUMMER},
    {"to hear the great bell ring", "the tower",
     "It rang only once a year, and {those who stood below it could make a wish|the sound was like no "
     "other}. {[he] had always been too small to "
     "go.|[his] [family] had told [him] about it.}",
     "[hero] stood below the tower. Then it came: {dong, dong, dong|ding, dong}! The sound went {through the "
     "stones and through [his] whole body|"
     "over all the roofs}. [hero] closed [his] eyes and {listened|smiled}.",
     "For days [he] could still hear the bell {in [his] dreams|when it was quiet}.",
     "had heard the great bell", 0},
};
const int story_wish_count = sizeof story_wishes / sizeof *story_wishes;
