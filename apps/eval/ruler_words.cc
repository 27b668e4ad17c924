#include "apps/eval/ruler_words.h"

#include <algorithm>
#include <iterator>
#include <sstream>

namespace eidetic::eval {
namespace {

constexpr const char* kRulerAdjectives =
    "able absent acidic active agile alert alien alpine amber ample amused ancient angry annual "
    "anxious arctic ardent arid artful autumn awake aware bald basic beloved bitter blank bleak "
    "blind bold bony brave brief bright brisk broad broken bronze bumpy busy calm candid careful "
    "casual central certain cheap cheerful chilly civil classic clean clear clever cloudy clumsy "
    "coastal cold common cool copper coral cosmic costly cozy creamy crimson crisp crooked curious "
    "curly cynical daily damp daring dark dear decent deep delicate dense diligent dim distant "
    "divine docile double drab dreamy dry dull dusty eager early earnest easy elastic elegant "
    "empty enormous equal eternal exact exotic faded faint fair faithful famous fancy fatal "
    "fearless "
    "feeble fertile festive fierce final firm fiscal flat fluffy fond formal fragile frank free "
    "fresh "
    "friendly frosty frozen frugal full funny furry gallant gaudy generous gentle giant giddy glad "
    "global gloomy glossy golden graceful grand grassy grateful grave greedy green grim guilty "
    "handy "
    "happy hard harsh hasty heavy helpful hidden hollow holy honest huge humble humid hungry icy "
    "ideal "
    "idle immense inner innocent ivory jolly joyful keen kind lame large late lavish lazy lean "
    "lively "
    "local lonely long loud lovely loyal lucky lunar magic marble mature mellow mild misty modern "
    "modest moist moral muddy mute narrow native neat nervous nimble noble noisy normal odd opaque "
    "open orange outer oval pale patient peaceful perfect plain pleasant polar polite prickly "
    "private "
    "prompt proper proud pure purple quaint quick quiet rapid rare raw ready recent regal remote "
    "rich "
    "rigid ripe rocky rosy rough round royal rural rustic rusty sacred safe salty sandy scarce "
    "scarlet "
    "secret serene severe shallow sharp shiny shy silent silky silver simple sincere sleepy "
    "slender "
    "slim slow smooth snowy sober soft solar solemn solid sour spare spicy stable stale stark "
    "steady "
    "steep stern sticky stormy strange strict strong sturdy subtle sudden sunny superb sweet swift "
    "tall tame tender tense thick thin thirsty thorny tidy timid tiny tired tough tragic tropical "
    "true upper urban useful vague valid vast velvet vivid warm wary weary western wet whole "
    "wicked "
    "wide wild windy winter wise witty wooden woolen worthy young zealous";

constexpr const char* kRulerNouns =
    "acorn actor admiral album alley almond altar anchor angle ankle antler anvil apple apron arch "
    "archer armor arrow artist ash atlas attic aunt author avenue axle baby badge bagel baker "
    "balcony "
    "ballad balloon bamboo banana banjo banner barber barge barley barn baron barrel basin basket "
    "bath "
    "beach beacon bead bean bear beard beaver bedroom beetle bell belt bench berry bicycle birch "
    "biscuit bishop blanket blossom boat bonfire bonnet book boot bottle boulder bowl bracelet "
    "branch "
    "bread breeze brick bridge broom brother bucket buckle buffalo bugle bull bullet bundle bunker "
    "butcher butter button cabin cabinet cable cactus cage cake calendar camel camera canal candle "
    "canoe canvas canyon captain caravan cargo carpet carriage carrot castle cathedral cattle cave "
    "cedar ceiling cellar cello chain chair chalk chapel chariot cheese cherry chess chest chicken "
    "chimney church cider cigar circus citizen clam clay cliff clinic cloak clock closet cloud "
    "clover "
    "coach coast cobra coffee coin collar colony comet compass copper cork corner cottage cotton "
    "couch cousin cradle crane crater crayon creek cricket crow crown crystal cup cupboard curtain "
    "cushion daisy dancer dawn deck deer dentist desert desk diamond diary dinner dock doctor "
    "dolphin "
    "domino donkey door dove dragon drawer dress drill drum duchess duck dune dust eagle easel eel "
    "egg "
    "elbow elephant elevator elm emerald engine envelope fabric factory falcon farmer feather "
    "fence "
    "fern ferry festival fiddle field fig finger fire fish flag flame flute foam forest fork "
    "fortress "
    "fossil fountain fox frame frog frost fruit funnel furnace gallery garage garden garlic gate "
    "gazelle "
    "geyser ghost giraffe glacier glass globe glove goat goblet goose granite grape grass gravel "
    "grove "
    "guitar gull guest hammer hamlet hammock harbor harp hat hawk hazel hedge helmet herb hermit "
    "hero "
    "heron hill hinge honey hood hook horn horse hospital hotel hunter husband ibex iceberg igloo "
    "inch "
    "infant ink insect iron island ivy jacket jaguar jar jasmine jelly jewel jockey judge jug "
    "jungle "
    "jury kayak kernel kettle key kingdom kitchen kite kitten knee knife knight knot ladder lagoon "
    "lake "
    "lamb lamp lantern lark lathe laundry lawn lawyer leaf leather ledge lemon leopard letter "
    "lever "
    "library lighthouse lily lime linen lion lizard lobster locket lodge log lotus lumber lute "
    "machine magnet maid mango mantle map maple mare market mason mast meadow medal melon merchant "
    "meteor milk mill miner mirror mitten moat mole monk monkey moon moose mop moss moth motor "
    "mountain "
    "mouse mule museum music mustard nail napkin neck nectar needle nest net nickel nose notebook "
    "nurse "
    "oak oar oasis oat ocean octopus olive onion opal opera orchard orchid organ otter oven owl "
    "oxygen "
    "oyster paddle page palace palm pan panda panther paper parade parcel park parrot pasture path "
    "peach peacock pear pearl pebble pelican pencil penguin pepper petal piano pickle picnic pier "
    "pigeon "
    "pillow pilot pine pioneer pirate planet plank planter plate plaza plow plum pocket poem poet "
    "pond "
    "pony poplar porch porter potato pottery powder prairie prince printer prison prophet puddle "
    "pulley "
    "pumpkin puppet puzzle pyramid quarry quartz queen quilt rabbit raccoon radish raft railway "
    "rain "
    "raisin ranch raven reef ribbon rice rider ridge rifle ring river road robin rocket roof room "
    "root rope rose rudder ruby rug sack saddle sailor salad salmon salt sand sandal satin sauce "
    "saw "
    "scarf scholar school scroll seal seashell senator shadow shark sheep shelf shell shepherd "
    "shield "
    "ship shirt shoe shovel shrine shrub sister skate skirt sled sleeve slipper snail snake soap "
    "sock "
    "soldier song soup sparrow spear spider spinach spiral spoon spring squirrel stable staircase "
    "star "
    "statue steam stone stove straw stream street sugar suitcase sultan sunset swallow swan sword "
    "table "
    "tailor tambourine tavern teacher teapot temple tent theater thimble thistle throne thumb "
    "thunder "
    "ticket tiger timber toad tomato tongue torch tortoise towel tower trail train tray treasure "
    "tree "
    "trombone trout trumpet trunk tulip tunnel turkey turnip turtle tutor umbrella uncle unicorn "
    "valley "
    "vase vault veil vessel village vine vinegar violet violin visitor volcano voyage wagon waiter "
    "wallet walnut walrus warehouse wasp watch water weaver wedding whale wheat wheel whistle "
    "widow "
    "willow window wing wizard wolf wombat wool wreath wrist yacht yard zebra zipper";

constexpr const char* kRulerVerbs =
    "absorb accept accuse achieve admire admit adopt advise afford agree allow amuse announce "
    "annoy "
    "appear applaud approve argue arrange arrive assist attach attack attempt attend attract avoid "
    "bake "
    "balance begin behave believe belong bless blink boast boil borrow bounce breathe bring bruise "
    "build "
    "burn bury buy call carry carve catch cause change chase cheat choose claim climb collect "
    "combine "
    "compare compete complain confess confuse connect consider contain copy correct cough count "
    "create "
    "cross crush curl damage dance dare decay deceive decide decorate defend delay deliver deny "
    "depend "
    "describe deserve destroy detect develop disagree disarm discover divide drag dream drift "
    "drink drive "
    "drop earn educate embrace employ encourage enjoy enter escape examine excuse exist expand "
    "expect "
    "explain explode extend fade fail fasten fetch fill fix flap float flood flow fold follow "
    "forbid force "
    "forget forgive gather gaze glow greet grin guard guess guide happen harm hate haunt heal heat "
    "help "
    "hide hope hover hug hum hunt hurry identify ignore imagine improve include increase inform "
    "inject "
    "injure instruct intend invent invite join joke juggle jump kneel know laugh launch lead learn "
    "leave "
    "lend listen live load look lose manage march melt memorize mend mention mix move multiply "
    "murder "
    "mutter notice obey object observe obtain occur offer own pack paint pardon pause perform "
    "permit "
    "persuade plant play plead point polish possess pour practice pray preach predict prefer "
    "prepare "
    "preserve pretend prevent produce promise pronounce protect prove provide pull pump punish "
    "push "
    "question race reach read realize receive recognize record reduce reflect refuse regret reign "
    "reject "
    "rejoice relax release rely remain remember remind remove repair repeat replace reply report "
    "rescue "
    "return rinse roam rob rub ruin rule run save scare scatter scold scratch scream search seek "
    "sell send "
    "separate serve settle shake share shave shelter shiver shop shrug sing sit sleep slide smell "
    "smile "
    "sneeze solve sparkle speak spell spill spoil sprout squeeze stand stare start steal stop "
    "store "
    "strengthen stretch strike stroll struggle succeed suffer suggest supply support suppose "
    "surprise "
    "surround suspect swear sweep swim swing talk tap tease tell tempt thank think throw tickle "
    "touch "
    "trace translate travel treat tremble trust try turn twist understand undress unite unlock use "
    "vanish "
    "visit wait walk wander want warn wash waste wave weigh welcome whisper win wink wish wonder "
    "worry "
    "wrap write yawn yell";

std::vector<std::string> split_words(const char* text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), std::istream_iterator<std::string>()};
}

}  // namespace

const std::vector<std::string>& ruler_adjectives() {
  static const std::vector<std::string> words = split_words(kRulerAdjectives);
  return words;
}

const std::vector<std::string>& ruler_nouns() {
  static const std::vector<std::string> words = split_words(kRulerNouns);
  return words;
}

const std::vector<std::string>& ruler_common_words() {
  static const std::vector<std::string> words = [] {
    std::vector<std::string> all = split_words(kRulerVerbs);
    all.insert(all.end(), ruler_adjectives().begin(), ruler_adjectives().end());
    all.insert(all.end(), ruler_nouns().begin(), ruler_nouns().end());
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
  }();
  return words;
}

}  // namespace eidetic::eval
