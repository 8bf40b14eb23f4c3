"""The words behind the lexical count: plain lists, general English first, each with the reason it is here.

Words that a part-of-speech tagger and CSS's colour names already settle are not repeated. Words are lower case;
those of the ``ABSTRACT`` lists stand for all their inflections.
"""

# Word -> the name of the constraint it is counted under; other adjectives count as "appearance".
CATEGORIES = {
    "size": """tiny small little miniature mini short low thin narrow slim medium medium-sized mid-sized average-sized
        big large huge giant gigantic enormous massive tall high long wide broad thick deep oversized full-size""",
    "texture": """smooth rough fuzzy furry fluffy hairy shaggy silky glossy shiny matte polished rusty grainy bumpy
        wrinkled woven knitted cracked peeling textured solid soft hard wet dry dusty muddy sandy grassy mossy leafy
        rocky snowy icy frosty frozen foamy""",
    "pattern": """striped stripes checkered chequered checked plaid spotted dotted polka-dot floral paisley patterned
        plain gradient camouflage zigzag tartan marbled speckled mottled printed tiled""",
    "material": """wooden wood metal metallic steel iron brass bronze copper gold silver stone brick concrete marble
        granite glass plastic rubber leather cotton wool woollen woolen silk velvet denim lace linen paper cardboard
        ceramic porcelain clay straw wicker bamboo tile chrome aluminum aluminium""",
    "shape": """round circular oval square rectangular triangular curved straight bent flat pointed pointy spiral
        curly hexagonal octagonal spherical cylindrical conical""",
    "light": """bright dark dim sunny sunlit moonlit backlit shadowy shaded cloudy overcast foggy misty hazy stormy
        rainy neon glowing lit illuminated candlelit golden-hour""",
    "style": """vintage retro antique modern contemporary gothic baroque victorian medieval rustic minimalist abstract
        surreal impressionist cubist realistic photorealistic cartoon anime cinematic monochrome sepia futuristic
        industrial traditional art-deco""",
    "viewpoint": "aerial panoramic overhead close-up closeup macro wide-angle frontal",
}

# Turns of phrase that are one constraint, or none, and that single words would misread.
PHRASES = {
    "viewpoint": """close up; extreme close up; view from above; seen from above; from above; from below; from behind;
        from the side; from the front; from the back; bird's eye view; top view; side view; front view; rear view;
        back view; aerial view; low angle; high angle; wide angle; eye level; at eye level; top down; full length;
        first person""",
    "light": """at night; at dawn; at dusk; at sunset; at sunrise; by night; in the dark; in the sun; in the shade; in
        the sunlight; during sunset; during the day; in the evening; in the morning; in the fog; golden hour; low
        light; night time; under a blue sky; under a cloudy sky""",
    "style": """black and white photo; black and white photograph; black and white picture; black and white image; in
        black and white; oil painting; oil on canvas; pencil drawing; pencil sketch; line drawing; line art; pop art;
        pixel art; concept art; 3d render; 3d rendering; art deco; art nouveau; hand drawn; still life; in the style
        of; water color; water colour; mid century; stained glass""",
    "number": """a pair of; a couple of; a group of; a bunch of; a row of; a stack of; a pile of; a herd of; a flock
        of; a crowd of; a set of; a cluster of; a collection of; a dozen; dozens of; hundreds of; thousands of; a lot
        of; lots of; a few""",
    # One thing with two words for a name.
    "": """in front of; on top of; next to; close to; on the side of; in the middle of; out of; a kind of; a type of;
        a part of; a piece of; a slice of; a photo of; a picture of; an image of""",
}

# Two nouns that are one broad kind of thing, as in COCO's names of categories.
COMPOUNDS = """t shirt; tennis ball; tennis racket; baseball bat; baseball glove; base ball; teddy bear; traffic light;
    stop sign; fire hydrant; fire truck; parking meter; parking lot; cell phone; mobile phone; hot dog; ice cream; wine
    glass; dining table; coffee table; coffee cup; potted plant; tv set; remote control; hair drier; hair dryer;
    street light; street sign; soccer ball; soccer field; baseball field; tennis court; basketball court; living room;
    dining room; bath room; bed room; train station; gas station; bus stop; school bus; sail boat; guinea fowl; polar
    bear"""

# A pair of these is one thing.
PAIRED = """pants jeans shorts trousers tights leggings scissors shears pliers tongs tweezers glasses eyeglasses
    sunglasses goggles binoculars headphones"""

# What a place in the frame is made of. Words of both axes in one phrase ("top left") are two constraints.
VERTICAL = "top upper bottom lower middle mid above below"
HORIZONTAL = "left right centre center leftmost rightmost"
# These may close such a phrase and add nothing.
PLACE_NOUNS = "side corner edge half part third hand end height level section area portion"

# Nouns that speak of the picture, not of a thing in it.
FRAME_NOUNS = """background backdrop foreground picture photo photograph image shot view scene side front back top
    bottom middle center centre distance position angle area part place spot end piece kind type sort style frame
    camera corner edge height left right inside outside surroundings closeup stock thing object item screen canvas
    illustration vector icon footage stock drawing design nothing something anything everything someone somebody
    anyone everyone"""

NUMBERS = "several many multiple numerous few various dozen dozens both three-quarters single double triple"

# Feelings, judgements and relations: the rubric does not count them.
ABSTRACT_ADJECTIVES = """beautiful pretty lovely gorgeous stunning amazing awesome wonderful great good nice best
    better bad worst perfect favourite favorite popular famous important main special unique interesting exciting fun
    funny cute adorable happy sad angry lonely proud calm peaceful serene cozy cosy romantic dramatic mysterious
    magical dangerous poisonous powerful delicious tasty fresh healthy easy difficult expensive cheap rich poor free
    real true new latest recent former future past current early late different same similar other another such own
    certain typical common general possible available necessary ready able likely final first last next national
    international local political social economic cultural financial professional personal private public official
    more most much less least all every each any some no only own whole entire complete total full-time part-time
    simple basic quick fast slow hopeful elegant luxurious luxury ideal essential spiritual digital inner nostalgic
    ultimate due unknown royalty-free high-quality"""
ABSTRACT_VERBS = """be have do get make know feel think love like want need hope believe remember understand learn
    enjoy seem appear become say tell ask mean consider include contain cause allow help let keep use try start begin
    end continue happen exist represent symbolize symbolise celebrate inspire create design base call name know see
    find show feature depict portray illustrate picture give take attend announce release win lose plan decide offer
    provide improve change share support serve experience live die belong depend require involve compare relate own
    expect deserve describe isolate put"""
ABSTRACT_NOUNS = """life love time day week month year way moment idea thought feeling emotion mood hope dream memory
    joy peace freedom truth beauty power energy luck success failure fear anger faith soul spirit culture history
    future past present news story question answer problem reason example information advice tip use value quality
    price cost work job help fun interest health music song word name world nature universe system project business
    company market economy politics government law tradition art style fashion career role comedy drama episode
    premiere event season edition version concept theme film movie series show favourite favorite attention look sense
    order term fact case level choice process research data team member subject category species genus family breed
    treat"""
# Nouns with these endings are abstract ...
ABSTRACT_ENDINGS = ("ness", "ity", "ment", "tion", "sion", "ism", "ship", "hood", "ance", "ence", "dom")
# ... but for these, which can be seen.
CONCRETE_NOUNS = """station plantation apartment monument ornament pavement equipment instrument basement garment
    document ambulance entrance fence city cement kingdom reflection intersection decoration constellation television
    mansion explosion exhibition city university pigment cushion harness lioness waitress ship battleship spaceship
    warship steamship procession vegetation construction carnation parchment condiment tournament appliance audience"""
# Shades: with a colour behind them they are part of it ("light blue" is one constraint).
SHADES = "light dark pale bright deep vivid pastel neon dull hot royal sky navy baby forest lime olive"
# Colour names of everyday English beyond CSS's.
COLOURS = """blonde blond brunette ginger cream mustard scarlet burgundy mauve amber rust charcoal emerald jade ruby
    sapphire rose peach apricot copper bronze ebony multicolored multicoloured multi-colored colorful colourful
    rainbow"""
