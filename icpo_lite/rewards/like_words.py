"""Ordinary English words that go for one another: names of one thing, a thing and its kinds, deeds.

`rewards/rewording.py` reads a question in a problem's own words with them. A word may stand in
several groups; which of them is meant is shown by the problem, which holds another word of one of
them. "_" stands for a blank.

The tables: written by hand as ordinary English, for what word problems are about.
tests/claims/question_targets.py measures what is built on them.
"""

from __future__ import annotations

#: Names of one thing, things apart by ";".
SAME = """
dog pooch pup doggy doggie hound canine mutt; puppy pup; cat kitty feline; kitten kitty; horse pony
steed stallion mare; donkey mule burro; cow cattle heifer; bull ox steer; pig hog swine; hen
chicken; chick hatchling; rooster cockerel; sheep ewe; mouse rodent; rat rodent; insect bug; bug
beetle; frog toad; snake serpent; turtle tortoise; crab crustacean; butterfly moth; kid child
youngster youth little_one tot tyke minor schoolchild; baby newborn infant; toddler tot; teenager
teen adolescent; boy lad; girl lass; man gentleman guy male bloke fellow; woman lady female; adult
grown-up grownup; senior pensioner elder old_person; spouse partner; husband hubby spouse; wife
spouse; parent folks; friend pal buddy chum mate companion; classmate schoolmate; roommate flatmate
housemate; neighbor neighbour; colleague coworker co-worker workmate teammate; boss manager
supervisor chief; employee worker staff staffer laborer labourer workforce personnel; student pupil
schoolkid learner student_body scholar; teacher instructor educator tutor professor schoolteacher;
coach trainer; customer client shopper patron buyer purchaser consumer; visitor guest attendee
caller; guest invitee attendee; tourist traveler traveller sightseer visitor; passenger rider
commuter traveler; spectator viewer audience onlooker crowd fan; player athlete; team squad crew;
contestant competitor participant entrant; runner jogger racer; driver chauffeur; doctor physician
medic; lawyer attorney; cop policeman police_officer officer; firefighter fireman; farmer grower;
cook chef; waiter waitress server; owner proprietor; singer vocalist; musician player
instrumentalist; author writer novelist; winner champion victor; soldier troop; sailor seaman; donor
giver contributor; resident inhabitant dweller citizen townsperson townspeople population; person
people individual folk human human_being; crowd throng; family household clan; party celebration
bash; wedding marriage; holiday vacation getaway break; trip journey outing excursion voyage ride;
tour excursion trip; picnic cookout; concert gig recital show; game match; tournament contest
competition championship; quiz test exam; exam test examination assessment; homework assignment
schoolwork; assignment task; project task; class course lesson; lesson tutorial session; grade mark
score; essay paper composition; book novel volume title paperback hardback tome; textbook schoolbook
book; notebook pad jotter; magazine periodical; newspaper paper newsprint; comic comic_book; letter
mail note; message text note; email mail message; poster flyer placard; flyer leaflet brochure
pamphlet; sticker decal; stamp postage; photo picture snapshot shot photograph print image; picture
image drawing; painting artwork canvas picture; drawing sketch; story tale; chapter section; episode
installment instalment; movie film flick; song tune track number melody; video clip; website site;
computer laptop pc machine; phone cellphone smartphone mobile handset; tv television telly; printer
machine; machine device apparatus; fridge refrigerator; oven stove cooker; bike bicycle cycle;
motorcycle motorbike; car auto automobile vehicle; truck lorry pickup; van minivan; bus coach; plane
airplane aircraft jet aeroplane; ship boat vessel; boat vessel canoe; taxi cab; subway metro
underground; gas gasoline petrol fuel; tire tyre; road street highway route; street road lane; path
trail track; store shop outlet market retailer; supermarket grocery_store grocery store; market
bazaar; mall shopping_center shopping_centre; restaurant diner eatery cafe; cafe coffee_shop; bakery
baker; factory plant mill; company firm business corporation; office workplace; school academy;
college university; hospital clinic; zoo animal_park; museum gallery; theater theatre playhouse;
cinema movie_theater theater; stadium arena; park playground; beach shore seaside; lake pond; river
stream; ocean sea; forest woods woodland; mountain peak; hill slope; island isle; farm ranch; field
plot; orchard grove; yard lawn; backyard yard garden; lawn grass turf; town village city; country
nation; neighborhood block area district; house home residence dwelling; apartment flat condo unit;
room chamber; bedroom room; bathroom restroom toilet; basement cellar; barn shed; shed hut; floor
story storey level; floor ground; door gate; fence railing; stair step staircase; pool
swimming_pool; chair seat; sofa couch settee; bench seat; seat place spot; shelf rack; bookshelf
bookcase; cupboard cabinet closet; closet wardrobe; lamp light; light bulb; lightbulb light_bulb
bulb; rug carpet mat; curtain drape; blanket quilt throw cover; pillow cushion; box carton crate
case; carton pack; package parcel packet pack; bag sack tote purse satchel pouch carrier; bag
tote_bag; purse handbag; backpack rucksack knapsack; suitcase luggage bag case; basket hamper;
bucket pail; bottle flask; jug pitcher; jar pot; can tin; tank reservoir; barrel drum keg cask; bowl
dish; plate dish; cup mug; glass tumbler; pan pot skillet; knife blade; container receptacle vessel;
bin trash_can garbage_can; trash garbage rubbish waste litter; bunch bundle cluster; bouquet bunch;
pile heap stack mound; row line; line queue; pair couple; piece bit chunk part; part portion section
segment; group set; shoe footwear; sneaker trainer running_shoe gym_shoe; t-shirt tee shirt; sweater
jumper pullover; dress gown frock; pants trousers slacks; jeans denims pants; suit outfit; outfit
ensemble costume; clothes clothing garment apparel outfit wardrobe; hat cap; glove mitten; tie
necktie; uniform outfit kit; jewelry jewellery; necklace chain pendant; ring band; bracelet bangle;
watch timepiece wristwatch; glasses spectacles eyeglasses; umbrella parasol; yarn wool thread;
thread string; rope cord string line; jade stone gem material; gem jewel stone; stone rock pebble;
rock stone boulder; wood timber lumber; stick branch rod wood; pole post rod; pipe tube; wire cable;
cement concrete; dirt mud soil earth muck filth muddy filthy dirty; rain rainfall precipitation;
food grub; meal dish; lunch midday_meal; dinner supper evening_meal; snack bite treat nibble;
dessert pudding sweet; appetizer starter; sandwich sub; hotdog hot_dog frankfurter frank wiener;
pizza pie; pie pastry; cake gateau; cupcake fairy_cake; cookie biscuit cooky; pancake flapjack;
doughnut donut; croissant pastry; candy sweet sweets lolly confectionery treat; lollipop lolly
sucker; jelly_bean jellybean; gum chewing_gum; chip crisp; fry french_fry chip; pasta noodle
spaghetti; chicken poultry; shrimp prawn; soup broth; strawberry berry; blueberry berry; vegetable
veggie veg; potato spud; corn maize; eggplant aubergine; drink beverage; soda pop soft_drink
fizzy_drink cola; beer ale; flower bloom blossom; seedling sapling; bush shrub; crop harvest yield
produce; leaf foliage; toy plaything; doll figure dolly; stuffed_animal plush soft_toy plushie;
teddy_bear teddy; puzzle jigsaw; video_game game; racket racquet; prize award reward trophy; trophy
cup; ticket admission pass entry; admission entry entrance ticket; money cash fund funds; coin
change; bill note banknote; salary pay wage wages paycheck income earnings; allowance pocket_money;
tip gratuity; fee charge; fine penalty; price cost price_tag tag sticker_price; cost price expense;
expense cost spending outlay expenditure; debt loan; savings nest_egg; profit gain; revenue takings
proceeds sales turnover income; donation contribution; discount reduction markdown; deal offer
bargain; electricity power; energy power; emission release pollution; carbon_dioxide co2 carbon;
goal target; lap circuit; step pace stride; kilometer kilometre km; meter metre; centimeter
centimetre cm; gram gramme; kilogram kilo kg; pound lb; ounce oz; liter litre; calorie kcal; minute
min; hour hr; night evening; spot dot; stripe line; color colour; haircut trim; foot paw; injury
wound; illness sickness; medicine medication drug; exercise workout; push-up pushup press-up;
problem question exercise; mistake error slip; answer response reply; vote ballot; job gig position
post; member subscriber; subscriber follower; follower fan; number figure; marker felt_tip pen;
eraser rubber; folder binder; plot garden bed patch; plant seedling shoot; bush plant; notebook
laptop; frog amphibian; character role part lead; deck pack; attendee alumnus alumni guest; graduate
alumnus alumni; down_payment deposit upfront_fee; kind sort type variety; record album vinyl; house
place home; pupil grader; balance account; vehicle ride; serving helping portion; leftover remainder
rest; ride attraction; shopping groceries; fight battle; text message; chat conversation; meeting
appointment; goods wares merchandise products; product item article; item thing article object
piece; gear equipment; pebble stone; sweetheart girlfriend boyfriend; gem jewel; dial clock; tune
song; tale story book; cash money; rent rental; batch lot load; squad team; trek hike walk; toenail
nail; fingernail nail; booth stall stand; stand stall booth; wallet purse; pocket purse wallet;
petal leaf; scarf shawl; bean pea; tortilla wrap; sum amount; space room spot; spot space place;
position rank place; wing side; rail railing fence; parking_spot parking_space space spot; cubicle
office; flat apartment; suite room; hallway corridor; yard garden; pasture meadow field; meadow
field; bowl dish plate; napkin serviette; fuel petrol; auditorium hall; hall auditorium room; aisle
row; rooster cock; bunny rabbit; hare rabbit; joey kangaroo; spectacles glasses; kitten cat; lamb
sheep; foal horse; calf cow; cub bear lion; puppy young_dog; kitten young_cat; shelter place; chive
herb; contest competition; person visitor; stretch period span; capital fund
"""

#: A kind, by its names, and after the colon things that are of it; kinds apart by ";".
KINDS = """
animal creature critter beast: dog cat horse cow pig sheep goat chicken hen duck rabbit lion tiger
elephant monkey bear wolf fox deer mouse hamster gecko snake frog turtle penguin giraffe zebra camel
donkey llama alpaca kitten puppy pony bull bird fish whale shark dolphin lizard spider rat squirrel
bee ant butterfly owl parrot cattle calf lamb rooster chick; pet: dog cat hamster gecko rabbit
goldfish parrot fish puppy kitten turtle bird snake lizard; livestock: cow pig sheep goat chicken
horse cattle; bird fowl: chicken duck hen goose parrot owl eagle pigeon robin sparrow penguin turkey
crow swan; fish: trout salmon goldfish tuna cod bass tilapia guppy shark carp; insect bug: ant bee
butterfly fly spider ladybug beetle mosquito grasshopper caterpillar; person people human
individual: kid child student boy girl man woman adult guest customer worker employee player friend
passenger visitor member teacher patient resident participant contestant runner singer dancer
soldier senior teenager neighbor client attendee spectator volunteer classmate tourist scout fan
camper swimmer; child kid youngster: boy girl student toddler baby scout; relative family_member
kin: cousin uncle aunt brother sister sibling grandparent nephew niece; flower bloom blossom: rose
tulip daisy lily sunflower carnation orchid daffodil lilac marigold chrysanthemum dandelion violet
iris; plant: flower tree cactus fern bush rose tulip vine succulent basil; tree: oak pine maple palm
birch fir willow cherry coconut orange lemon apple; fruit: apple orange banana pear grape strawberry
blueberry mango peach plum cherry lemon lime watermelon pineapple kiwi raspberry blackberry coconut
melon avocado berry apricot pomegranate; vegetable veggie veg: carrot potato tomato onion cucumber
lettuce cabbage broccoli corn pea bean pepper pumpkin zucchini spinach eggplant squash celery beet
turnip radish; food: pizza burger sandwich cake bread rice pasta taco hotdog hot_dog fries chicken
soup salad cookie meat egg fruit noodle steak sushi burrito; drink beverage: soda juice coffee tea
milk water lemonade beer wine smoothie cola milkshake; dessert sweet pastry treat: cake cookie pie
brownie cupcake muffin doughnut ice_cream pastry candy chocolate croissant tart pancake cheesecake
pudding cinnamon_roll donut; baked_good bakery_item: bread cookie cake muffin cupcake pie brownie
croissant roll bagel loaf doughnut biscuit pastry bun scone; candy sweet treat: chocolate lollipop
jellybean gummy mint caramel gum jawbreaker skittle lollipop; snack treat: chip cookie candy popcorn
cracker pretzel granola_bar nut fruit; meat: beef chicken pork steak ham bacon sausage turkey lamb
burger; seafood: shrimp crab lobster oyster fish clam; dairy: milk cheese butter yogurt; spice
seasoning: pepper salt cinnamon paprika garlic; ingredient: flour sugar butter egg milk salt oil;
meal: breakfast lunch dinner supper brunch; vehicle: car truck bus van motorcycle bike bicycle
motorbike taxi scooter tractor train jeep SUV; two-wheeler: bike bicycle motorcycle; boat: canoe
kayak ferry yacht ship; clothes clothing garment apparel: shirt pants dress skirt jacket coat
sweater shorts jeans sock hat suit blouse t-shirt hoodie shoe uniform; shoe footwear: sneaker boot
sandal heel slipper trainer loafer; headwear headgear: hat cap helmet; jewelry jewellery: necklace
ring bracelet earring watch; furniture: chair table sofa desk bed couch shelf bookcase dresser
cabinet; container: box bag bottle jar can crate bucket basket carton tank barrel tub bin pot jug;
toy: doll car ball lego puzzle truck yo-yo marble teddy action_figure; stationery school_supply:
pencil pen notebook eraser crayon marker folder ruler paper; writing_tool writing_utensil: pen
pencil crayon marker; book publication: novel textbook magazine comic; reading_material: book
magazine newspaper; instrument: guitar piano drum violin flute trumpet clarinet; device gadget:
phone tablet computer laptop camera tv console; appliance: fridge oven microwave washer dryer
dishwasher toaster; tool: hammer saw drill wrench screwdriver; building: house school office
hospital library hotel store church; room: bedroom kitchen bathroom classroom; shape figure:
triangle square circle rectangle cube; coin: penny nickel dime quarter; sport: soccer football
basketball baseball tennis hockey volleyball; exercise: push-up pushup sit-up situp squat jump lunge
crunch; game: chess soccer football basketball baseball tennis hockey; event: party wedding concert
meeting fair festival; gift present: toy book; material stuff substance: wood jade fabric cloth
metal cotton wool gold leather paper stone clay steel wire; liquid fluid: water milk juice oil
paint; gas: carbon_dioxide co2 oxygen; sheet paper: page paper; amphibian: frog toad newt; reptile:
snake lizard gecko turtle crocodile alligator; rodent: mouse rat hamster squirrel guinea_pig;
mammal: dog cat horse cow pig sheep whale dolphin elephant; berry: strawberry blueberry raspberry
blackberry cranberry; nut: almond peanut walnut cashew pecan; grain: rice wheat corn oat barley;
sport_gear: ball bat glove; outerwear: coat jacket; trousers: jeans shorts slacks; electronics:
phone laptop tv computer tablet camera; metal: gold silver copper iron steel; jewel gem stone:
diamond ruby emerald sapphire pearl jade; treat: brownie cookie cupcake candy cake muffin donut
ice_cream chocolate; greens: lettuce spinach kale; citrus: orange lemon lime grapefruit; pastry:
croissant muffin pie tart; sea_creature: crab fish shark whale dolphin lobster octopus jellyfish
starfish; staff: nurse teacher waiter cook; worker: cashier carpenter painter plumber electrician
builder; professional: doctor lawyer engineer; artwork: painting drawing sculpture statue;
sculpture: statue; vessel: cup bowl jar; decoration ornament: balloon light candle ribbon; device:
printer machine; machine: printer robot; document: essay report letter email; writing: essay story
poem; performance: concert play recital; competition contest: race tournament game quiz; subject:
math science history biology geography english; body_part: arm leg finger toe; property: house
apartment land; sweetener: sugar honey syrup; fabric material: cotton silk wool denim; cutlery
silverware: fork spoon knife; crockery: plate bowl cup; bedding: sheet blanket pillow; ball_game:
soccer football basketball baseball tennis; event: reunion party
"""

#: Words of one deed, deeds apart by ";".
DEEDS = """
mix stir combine blend whisk; bake cook; cook prepare fry boil; buy purchase get acquire pick_up;
sell offload; give hand donate pass; share split divide; donate contribute give; lend loan; eat
consume devour swallow munch gobble polish_off get_through have; drink sip swallow; throw toss
chuck; throw_away discard toss dump bin throw_out get_rid_of; lose misplace; find discover
come_across; collect gather amass; pick gather harvest collect; harvest reap gather pick; plant sow;
grow raise cultivate; cut chop trim; break smash shatter crack; damage ruin break spoil; crumple
crease; repair fix mend; clean wash scrub tidy; wash clean rinse launder; paint decorate coat; build
construct erect put_up; make create produce craft; print run_off; draw sketch; carve sculpt; write
compose pen; type key key_in type_up; read get_through; study revise; teach instruct; skip omit
leave_out pass_over miss_out; miss skip; answer get respond; solve work_out; win earn; score get
net; beat defeat; practice practise rehearse train; train practice exercise work_out; run jog
sprint; walk stroll hike; hike trek walk; climb ascend scale; jump leap hop; drive travel go; travel
go journey cover; arrive get_there turn_up show_up; leave depart go set_off; attend come turn_up go
show_up; visit come; stay remain; wait queue line_up stand_in_line hang_around; sleep nap rest; rest
relax break; work labor toil; hire employ recruit take_on; fire lay_off dismiss let_go; quit resign
leave; earn make bring_home take_home; save put_aside set_aside put_away; spend pay shell_out; pay
spend fork_out hand_over cough_up; charge bill; invest put; withhold deduct take_off dock; remove
take_away take_out; add put; carry hold; carry lug haul transport; deliver bring drop_off; send mail
ship post; receive get; sew stitch; cover coat; wear put_on; release emit give_off produce; use need
go_through; need require want; watch view see; see spot notice; upload post; start begin commence
kick_off; finish complete end wrap_up; die perish pass_away; move shift; rent hire lease; book
reserve; hit strike; invite ask; mow cut; shovel clear; plow plough; steal swipe pinch; increase
rise go_up grow; decrease fall drop go_down shrink; plant put_in sow set_out; allot allocate assign
grant give; gather pick harvest; reply answer; fit hold; plan intend; write jot; read flick_through;
shout yell; lift raise; drop fall; mark grade; sign autograph; bind tie; wrap pack; pack wrap stow;
assemble build put_together; install put_in; print run_off run; check inspect; test try; rescue
save; adopt take_in; evolve develop; defrost thaw; heat warm; cool chill; freeze; bounce; kick; blow
inflate blow_up; pop burst; dig; drill; plug; vacuum hoover; iron press; dust; tidy clean; peel;
chew; bark; babysit mind look_after
"""
