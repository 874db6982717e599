// train/stories_rules.c -- how stories are told: openings, talk, turns and endings, and the frames that put them in order.
//
// train/stories.c sets [gift], [meeting], [solution] and [moral] by how the obstacle is overcome, and works out a frame.
#include "train/stories_text.h"

const struct story_rule story_rules[] = {
    // ---- who, where, and what for
    {"once",
     "{once upon a time|once|long ago|a long time ago|in a land far away|not so long ago|many years ago|when "
     "the world was young|when the hills were still young|before your grandmother was born|one "
     "{summer|autumn|spring}|in a country without a name|on the other side of the {mountains|sea|world}}"},
    {"little", "{little|small|young|tiny|}"},
    {"intro", "{[once] there was a [little] [kind] {named|called} [name]{| with [look]}. [he] lived in "
              "[home] {with [his] [giver]|together with [his] [giver]}. [character]|"
              "[once] a [little] [kind]{ with [look]|} lived in [home]. {[his] name was [name]|everybody "
              "called [him] [name]}. [character]|"
              "[name] was a [little] [kind]{| with [look]}. [name] and [his] [giver] lived in [home]. "
              "[character.more]|"
              "in [home] lived a [little] [kind] {named|called} [name]{, and with [him] [his] [giver]| with "
              "[his] [giver]}. [character]|"
              "{this is the story of|let me tell you about|I want to tell you about} [name], the [trait] "
              "[kind]. [name] lived in [home]{| with [his] [giver]}, and {everybody knew that|people said "
              "that|it was true that} [trait.shows].}"},
    {"character", "{[name]|[he]} was {very|quite} [trait]: [trait.shows]."},
    {"character.more", "{[name]|[he]} was {really|very} [trait]: [trait.shows]."},
    {"wish.stated", "{{more than anything|most of all|with all [his] heart}, [hero] wanted [wish]. "
                    "[reason]|[hero] had {one|one big|only one} wish: [he] wanted [wish]. [reason]|"
                    "{every night|every day|again and again} [hero] dreamed the same dream. [he] wanted "
                    "[wish]. [reason]|\"I want [mywish],\" [hero] said to [his] [giver] {at breakfast|one "
                    "evening|again and again}. [reason]|\"{What do you wish for|What are you dreaming "
                    "of|What is it, dear}?\" asked [his] [giver]. \"I want [mywish],\" said [hero]. [reason]|"
                    "[reason.first]}"},
    {"reason.first",
     "there was something that [hero] could not {forget|stop thinking of}. [he] wanted [wish]. [reason]"},
    {"set.out", "{[time] [sky], and [hero] {set out for|started on the way to} [place].|[time] [hero] "
                "{packed a {small|[color]} bag|put on a [color] {scarf|cap|belt}|said goodbye to [his] "
                "[giver]|closed the door behind [him]|drank a glass of milk} "
                "and {set out for|went off to} [place].|so [time] [hero] {set out|began to walk|left the "
                "house}. {It was a long way to [place]|[place] was far away|the way to [place] was long}{, "
                "but [sky]| and [sky]|}.|\"I am going to [place],\" [hero] said "
                "[time.said]. \"{Come home safe|Be careful|Good luck},\" said [his] [giver].}"},
    {"time.said", "{one morning|one day|after breakfast|on [day]}"},
    // ---- on the way
    {"way", "{[tempted]|[snack.eaten]|[seen]||}"},
    {"tempted",
     "{on the way|a little later|near a {farm|well|windmill}|under a bridge} {some|two|three|four|five} "
     "{ducklings|children|young cats|monkeys|lambs|mice|boys|girls|goats} were playing {tag|ball|with "
     "marbles|leapfrog|cards|chess|the flute}. \"{Stay and "
     "play with us|Come and play}!\" they {called|cried}. \"{Not today|Another time|I cannot},\" said "
     "[hero]. \"I want [mywish].\""},
    {"snack.eaten",
     "{at noon|when [he] was tired|after {an hour|two hours|a few miles}} [hero] sat down {under a tree|on a "
     "stone|by the road} and ate a [snack]. {Then [he] walked on.|[he] gave the last bit "
     "to {an ant|a sparrow|a lizard|a robin|a beetle|a worm}.}"},
    {"seen", "[hero] {passed|went by|saw} [sight] and [sight], and {waved|hummed a song|thought of "
             "[place]|walked a little faster|[sky]}."},
    {"sight", "{a mill|a field of {corn|wheat|cabbages|sunflowers}|an old "
              "{church|well|tower|bridge}|{two|three|four|seven} {white|brown|black|sleepy} "
              "{cows|sheep|geese|horses}|a pond full of {ducks|stars|leaves}|a house without windows|a "
              "{farmer|woman|boy|girl|postman} with a [color] {hat|coat|bicycle|cart}|a [color] "
              "{gate|boat|barn|tent}|a {hill|tree|stone} that looked like a {giant|sleeping dog|ship|hat}|a "
              "scarecrow}"},
    {"further",
     "{but|then|after a while|halfway to [place]|not far from [place]|everything went well until}"},
    {"trouble", "[further] [meet] [upset]"},
    {"upset", "{\"Oh no,\" said [hero]. \"[complaint]!\"|[hero] {sat down|sighed|looked at it for a long "
              "time}. \"[complaint],\" [he] said{ sadly|}.|\"What {now|shall I do}?\" {thought|"
              "said} [hero]. \"[complaint].\"|[hero] {almost cried|felt very small}. \"[complaint]!\"}"},
    {"tried", "{[fail] ||}"},
    {"need",
     "\"{What is the matter|Why do you look so sad|Can I help you}?\" asked a {voice|friendly voice|deep "
     "voice|thin voice}. It was [h.look] [h.kind]. \"I want [mywish], but [complaint],\" said [hero]. "
     "\"My name is [helper],\" said the [h.kind]. \"{I think I can help|Let me see what I can do|We will see "
     "about that}.\""},
    {"thanks", "{\"Thank you, [helper]!\" said [hero]. \"[you.welcome],\" said [helper].|[hero] thanked "
               "[helper] {from the bottom of [his] heart|again and again}. \"[you.welcome],\" said "
               "[helper].|\"How can I thank you?\" asked [hero]. \"[you.welcome],\" said [helper].}"},
    {"kindness",
     "{on the way|by the side of the road|not far from home} [hero] met [h.look] [h.kind] {named|called} "
     "[helper]. "
     "{[helper] could not find [h.his] glasses. [hero] looked in the grass until [he] {had|found} "
     "them.|[helper] was carrying a {heavy|big} basket. [hero] {took one handle|carried it "
     "for a while}.|[helper] was {hungry|very hungry}. [hero] broke the [snack] in two and gave [h.him] "
     "{one|the bigger} half.|[helper] had {a thorn|a splinter} in [h.his] foot. "
     "[hero] pulled it out {carefully|without hurting [h.him]}.|[helper] had lost [h.his] {hat|bag|little "
     "bell}. [hero] {helped [h.him] to look|found it behind a bush}.|[helper] was "
     "{sad|lonely}, so [hero] {sat with [h.him] for a while|told [h.him] a joke}.} "
     "\"{You are kind|Thank you},\" said [helper]. \"If you need help, {call my name|call me}.\""},
    {"called", "Then [hero] {remembered|thought of} [helper] and called [h.his] name. {It did not take long "
               "until [helper] came.|[helper] came at once.|\"Here I am,\" said [helper].}"},
    {"remembers", "Then [hero] {remembered|thought of} the [item] {that [his] [giver] had given [him]|from "
                  "[his] [giver]|in [his] bag}."},
    {"own.way",
     "{But [hero] was not [trait] for nothing.|\"{There must be a way|I will not give up},\" thought [hero], "
     "for [he] was [trait].|But who is [trait] {does not turn back|finds a way}.}"},
    {"gift.item",
     "[his] [giver] gave [him] a {good |small |plain |fine |}[item]{| for the way}. \"{You may need it|Take "
     "it with you|It helped me when I was young|One never knows},\" said [his] [giver]."},
    {"gift.snack", "[his] [giver] {gave [him]|packed} a [snack] {for the way|against the hunger}."},
    // ---- there, and home
    {"arrived", "{at last|in the afternoon|when the sun was low|after a long walk|an hour later|two hours "
                "later|and then|{two|three|four} miles further|before {noon|dark|supper}|when [he] had "
                "almost stopped hoping} [hero] {came to|reached} [place]."},
    {"home.again", "{that evening|at home|when [he] was home again|in the evening} [hero] told [his] [giver] "
                   "{about|all about} [noun.the]"},
    {"asked.end", "\"{Were you afraid|Was it hard}?\" asked [his] [giver]. \"{Only a little|Yes, but I "
                  "wanted [mywish]|Not any more},\" said [hero]."},
    {"ending", "{[home.again]{| and how it had ended}. [asked.end] [moral]|[home.again]. [moral] {[hero] "
               "fell asleep with a smile, for [he] [done].|}|"
               "[hero] {was tired but|was} [feeling]. [he] [done]{ at last|}. [moral]|\"I did it,\" [hero] "
               "{whispered|said}. [he] [done]. [moral]|[moral] {And that is how|So} [the.kind] got "
               "what [he] {wished for|had wanted}.}"},
    {"moral.item",
     "{\"It is good that you gave me the [item],\" said [hero].|[hero] gave the [item] back to [his] "
     "[giver]. \"Keep it,\" said [his] [giver]. \"{The next adventure will come|You "
     "will need it again}.\"|the [item] got a place of honor {over the door|on the wall}.|[his] [giver] "
     "{looked at the [item] and smiled|had been right about the [item]}.}"},
    {"moral.helper",
     "{[hero] and [helper] {stayed friends|were friends from that day on}.|and {each spring|every [day]} "
     "[hero] {visited|went to see} [helper].|[hero] never forgot [helper].|"
     "{it is good to have a friend like [helper].|alone [he] could not have done it.}}"},
    {"moral.kindness",
     "{[hero] had helped [helper], and [helper] had helped [hero.o].|who helps others is not alone.|a small "
     "kindness had come back {like a bird|on four feet}.|\"You helped [helper] "
     "first,\" said [his] [giver]. \"{That is why|That is how it works}.\"}"},
    {"moral.trait",
     "{\"I always knew how [trait] you are,\" said [his] [giver].|it is good to be [trait].|{to be "
     "[trait]|being [trait]} is {a good thing|better than being strong}.|\"Who is [trait] {gets "
     "there in the end|finds a way},\" said [his] [giver].}"},
    {"moral.pal",
     "{\"Where do we go next?\" asked [pal].|[pal] {talked about it for weeks|was proud of [hero.o]}.|\"Next "
     "time it is my turn to wish for something,\" said [pal]. \"{I want to fly to the moon|"
     "I want a cake|Let me think}.\"}"},
    // What was told early is said again at the end.
    {"recap", "{that was the story of [name], the [trait] [kind] who wanted [wish].|{even today|to this day} "
              "{the neighbors|the old people|the children of the village} tell each other how [name] the "
              "[kind] wanted [wish], and how "
              "[noun.the] could not stop [him].|\"{Tell it again|Tell us the story},\" the little ones said "
              "{every [day]|evening after evening}, and [name] told them about [noun.the], about [credit] "
              "and about [place].|if you ever meet a "
              "[trait] [kind] {on the way to|near} [place], ask for [name] and for the story of "
              "[noun.the].|so [name] the [kind], who had wanted [wish], was not stopped by [noun.the]{, "
              "thanks to [credit]|}.|when [name] was an old [kind], [he] "
              "still remembered [noun.the], [credit] and [place].}"},
    {"recap.maybe", "{[recap]|[recap]|[recap]|}"},
    // ---- frames
    {"frame.plain", "[intro] [wish.stated]\n\n[set.out] [gift] [meeting] [way]\n\n[trouble] "
                    "[tried][solution]\n\n[arrived] [success] [after]\n\n[ending] [recap.maybe]"},
    {"wish.bare", "{{more than anything|most of all|with all [his] heart} [hero] wanted [wish].|[hero] had "
                  "{one|one big|only one} wish: [he] wanted [wish].|\"I want [mywish],\" [hero] {said|told "
                  "[his] [giver]} {at breakfast|one evening|again and again}.}"},
    {"frame.tiny",
     "{[once] there was a [little] [kind] {named|called} [name].|[name] was a [little] [kind] with "
     "[look].|in [home] lived a [little] [kind] {named|called} [name].} [wish.bare] [gift] "
     "[meeting]\n\n{[time] [hero] set out for [place].|so [he] set out for [place].|[time] [he] went off to "
     "[place].} [trouble] [solution]\n\n[arrived] [success] {[after]|} {[hero] [done].|[moral]} "
     "[recap.maybe]"},
    {"frame.quick",
     "[intro] [wish.bare] [gift] [meeting] {[time] [hero] set out for [place].|[time] [sky], "
     "and [hero] set out for [place].} [trouble] [solution]\n\n[arrived] [success] [moral] [recap.maybe]"},
    {"frame.short", "[intro] [wish.stated] [gift] [meeting]\n\n[set.out] [trouble] [solution]\n\n[arrived] "
                    "[success] [after] [ending] [recap.maybe]"},
    {"frame.middle",
     "{[name] the [kind] stood still.|\"{Oh dear|Oh no},\" said [name], the [little] [kind].} [meet.now] "
     "[upset]\n\n{how had it come to this|how had it begun}? [name] lived in [home], and [he] was [trait]: "
     "[trait.shows]. [wish.stated] so that morning [he] had set out for [place]. [gift] [meeting]\n\n{and "
     "now this|and now there was [noun]}. [tried][solution]\n\n[arrived] [success] "
     "[after] [ending] [recap.maybe]"},
    {"meet.now",
     "{only a moment ago the way had been clear.|it had been such a good day until now.} now [meet]"},
    {"frame.pal",
     "[name] the [kind] and [pal] the [pal.kind] were {best friends|the best of friends}. [name] lived in "
     "[home] and was [trait], and [pal] {liked to eat|was always hungry|was always tired|talked a "
     "lot}. [wish.stated] \"{Then let us go|I will come with you},\" said [pal].\n\n[set.out.two] [gift] "
     "[meeting] [way]\n\n[trouble] \"{Let us go home|I knew it|We will never get there},\" said [pal]. "
     "\"{No|Not "
     "yet|Wait},\" said [hero]. \"I want [mywish].\" [solution] {[pal] came right behind.|and [pal] "
     "followed.}\n\n[arrived] [success] [after] {[pal] {clapped|cheered|danced}.|}\n\n[moral.pal] [moral] "
     "[recap.maybe]"},
    {"set.out.two",
     "{[time] [sky], and the two friends set out for [place].|[time] they {left|set out} for [place].|so "
     "[time] the two of them {set out|began to walk}. It was a long way to [place].}"},
    {"frame.letter",
     "dear [pal],\n\n{how are you?|I hope you are well.|it is [day], and [sky.now].|the {cat|neighbor|wind} "
     "sends you greetings.} {you will not believe what happened to me|I have so much to tell you}. you know "
     "what it is like to be a [kind] in [home], and that I am [trait]: "
     "[trait.shows]. {for a long time|all year long} I had wanted [wish]. [reason]\n\n[set.out] [gift] "
     "[meeting] [way]\n\n[trouble] [tried][solution]\n\n[arrived] [success] [after] [moral]\n\n{write "
     "soon|come and visit "
     "me|I miss you}!\nyour [name]"},
    {"frame.bed",
     "\"{Tell me a story|One more story, please|I cannot sleep},\" said {little|} [kid]. [k.His] [teller] "
     "{sat down on the bed|closed the curtains|thought for a moment} and began.\n\n[intro] "
     "[wish.stated]\n\n[set.out] "
     "[gift] [meeting]\n\n[trouble] [solution]\n\n[arrived] [success] [after] [moral]\n\n\"{Is that true|Did "
     "that really happen}?\" asked [kid]. \"{Every word|As true as the moon|What do you think},\" said "
     "[k.his] [teller]. "
     "[kid] closed [k.his] eyes and {dreamed of [place]|saw a little [kind] on the way to [place]}."},
    {0, 0},
};
