"""Kinds of place: museums, towns, schools, gardens and bridges."""

from __future__ import annotations

from promptcache.pocket.world import Kind, fact

MUSEUM = Kind(
    "museum",
    ("the {} Museum", "the {} Gallery", "the {} House Museum"),
    ("It", "The museum"),
    ("{E} is a small museum.", "{E} is a museum with a long history.", "{E} is a quiet museum."),
    ("Visitors often stay longer than they planned.", "School classes come every week.",
     "The building was restored with great care.", "A small shop sells books and cards."),
    (
        fact("year", "{E} opened in {v}. | {E} first opened its doors in {v}. | "
                     "In {v}, {e} was opened to visitors.",
             "When did {e} open? | In which year did {e} open? | What year was {e} opened?",
             earlier="Which opened earlier, {a} or {b}?", later="Which opened later, {a} or {b}?"),
        fact("town", "{E} stands in {v}. | {E} is located in the town of {v}. | "
                     "In the centre of {v} stands {e}.",
             "Where is {e}? | In which town is {e} located? | What town is {e} in?"),
        fact("person", "{E} is directed by {v}. | {v} is the director of {e}. | "
                       "{E} has {v} as its director.",
             "Who directs {e}? | Who is the director of {e}? | "
             "What is the name of the director of {e}?",
             role="the director of {e}"),
        fact("person", "{E} was designed by the architect {v}. | The architect {v} designed {e}.",
             "Who designed {e}? | Who was the architect of {e}?", role="the architect of {e}"),
        fact("objects", "{E} is known for its {v}. | {E} shows a large collection of {v}. | "
                        "A collection of {v} is the pride of {e}.",
             "What does {e} collect? | What is {e} known for? | What is in the collection of {e}?"),
        fact("euros", "{E} charges {v} for a ticket. | A ticket to {e} costs {v}.",
             "How much is a ticket to {e}? | What does a ticket to {e} cost?",
             earlier="Which has the cheaper ticket, {a} or {b}?"),
        fact("thousands", "{E} had {v} visitors last year. | Last year {v} people visited {e}.",
             "How many visitors did {e} have last year? | How many people visited {e} last year?",
             later="Which had more visitors last year, {a} or {b}?"),
        fact("time", "{E} opens its doors at {v} each morning. | The opening hour of {e} is {v}.",
             "At what time does {e} open? | What is the opening hour of {e}?"),
    ),
)  # fmt: skip

TOWN = Kind(
    "town",
    ("{}",),
    ("It", "The town"),
    ("{E} is a town on a river.", "{E} is a small town.", "{E} is an old market town."),
    ("The streets near the market are narrow.", "Trains stop here twice an hour.",
     "In summer the squares are full of people.", "A path leads along the old wall."),
    (
        fact("thousands", "{E} has {v} inhabitants. | {v} people live in {e}. | "
                          "The population of {e} is {v}.",
             "How many people live in {e}? | What is the population of {e}? | "
             "How many inhabitants does {e} have?",
             later="Which has more inhabitants, {a} or {b}?"),
        fact("person", "The mayor of {e} is {v}. | {E} has elected {v} as its mayor. | "
                       "{v} is the mayor of {e}.",
             "Who is the mayor of {e}? | What is the name of the mayor of {e}?",
             role="the mayor of {e}"),
        fact("food", "{E} is famous for its {v}. | The best known dish of {e} is {v}.",
             "What food is {e} famous for? | What is the best known dish of {e}?"),
        fact("year", "{E} was granted its charter in {v}. | The charter of {e} dates from {v}.",
             "When was {e} granted its charter? | From what year is the charter of {e}?",
             earlier="Which was granted its charter earlier, {a} or {b}?"),
        fact("animal", "The coat of arms of {e} shows a {v}. | {E} has a {v} on its coat of arms.",
             "What animal is on the coat of arms of {e}? | "
             "Which animal does the coat of arms of {e} show?"),
        fact("kilometres", "{E} lies {v} from the sea. | The distance from {e} to the sea is {v}.",
             "How far is {e} from the sea? | What is the distance from {e} to the sea?",
             earlier="Which is nearer to the sea, {a} or {b}?"),
        fact("metres", "{E} lies {v} above sea level. | "
                       "The church of {e} stands {v} above sea level.",
             "How high above sea level is {e}? | At what height above the sea does {e} lie?"),
    ),
)  # fmt: skip

SCHOOL = Kind(
    "school",
    ("the {} School", "the {} College", "the {} Academy"),
    ("It", "The school"),
    ("{E} is a school for all ages.", "{E} is a well known school.",
     "{E} is a school with a good name."),
    ("Its garden is open to the neighbours.", "Many pupils come by bicycle.",
     "Evening classes are held in the old hall.", "The choir gives a concert every winter."),
    (
        fact("year", "{E} was founded in {v}. | The founding year of {e} is {v}. | "
                     "In {v}, {e} was founded.",
             "When was {e} founded? | In which year was {e} founded?",
             earlier="Which was founded earlier, {a} or {b}?",
             later="Which was founded later, {a} or {b}?"),
        fact("town", "{E} is in {v}. | {E} has its main building in {v}.",
             "Where is {e}? | In which town is {e}?"),
        fact("person", "{E} is led by {v}. | {v} is the head of {e}. | The head of {e} is {v}.",
             "Who leads {e}? | Who is the head of {e}?", role="the head of {e}"),
        fact("thousands", "{E} has {v} pupils. | {v} pupils attend {e}.",
             "How many pupils does {e} have? | How many pupils attend {e}?",
             later="Which has more pupils, {a} or {b}?"),
        fact("subject", "{E} is known for teaching {v}. | The strongest subject at {e} is {v}.",
             "What is the strongest subject at {e}? | Which subject is {e} known for teaching?"),
        fact("colour", "Pupils of {e} wear {v} scarves. | {E} has chosen {v} for its scarves.",
             "What colour are the scarves of {e}? | Which colour of scarf do pupils of {e} wear?"),
        fact("euros", "{E} asks for a yearly fee of {v}. | The yearly fee of {e} is {v}.",
             "What is the yearly fee of {e}? | How much is the yearly fee of {e}?",
             earlier="Which has the lower fee, {a} or {b}?"),
    ),
)  # fmt: skip

GARDEN = Kind(
    "garden",
    ("the {} Garden", "{} Park", "the {} Arboretum"),
    ("It", "The garden"),
    ("{E} is a public garden.", "{E} is a garden with old trees.", "{E} is a peaceful garden."),
    ("Benches stand along the pond.", "Birds can be heard all morning.",
     "Volunteers help with the planting.", "A map of the paths hangs at the gate."),
    (
        fact("town", "{E} can be found in {v}. | The town of {v} is home to {e}.",
             "In which town is {e}? | Where can {e} be found?"),
        fact("person", "{E} was laid out by {v}. | {v} laid out {e}.",
             "Who laid out {e}? | By whom was {e} laid out?", role="the person who laid out {e}"),
        fact("year", "{E} was planted in {v}. | The first trees of {e} were planted in {v}.",
             "When was {e} planted? | In which year was {e} planted?",
             earlier="Which was planted earlier, {a} or {b}?"),
        fact("count", "{E} has {v} kinds of rose. | There are {v} kinds of rose in {e}.",
             "How many kinds of rose are there in {e}? | How many kinds of rose does {e} have?",
             later="Which has more kinds of rose, {a} or {b}?"),
        fact("animal", "A {v} nests in {e} every spring. | {E} is home to a {v}.",
             "Which animal nests in {e}? | What animal lives in {e}?"),
        fact("time", "{E} closes its gates at {v}. | The gates of {e} close at {v}.",
             "When do the gates of {e} close? | At what time does {e} close?"),
    ),
)  # fmt: skip

BRIDGE = Kind(
    "bridge",
    ("the {} Bridge", "the {} Viaduct", "the {} Tower"),
    ("It", "The structure"),
    ("{E} is a landmark of its region.", "{E} is a fine piece of building.",
     "{E} is a famous sight."),
    ("At night it is lit by small lamps.", "Painters come here for the view.",
     "A plaque tells of the workers.", "Repairs are made every few years."),
    (
        fact("metres", "{E} is {v} long. | The length of {e} is {v}.",
             "How long is {e}? | What is the length of {e}?", later="Which is longer, {a} or {b}?"),
        fact("material", "{E} is made of {v}. | The builders of {e} used {v}.",
             "What is {e} made of? | Which material was used for {e}?"),
        fact("person", "{E} was built by the engineer {v}. | The engineer {v} built {e}.",
             "Who built {e}? | Which engineer built {e}?", role="the engineer who built {e}"),
        fact("date", "{E} was completed on {v}. | The work on {e} ended on {v}.",
             "When was {e} completed? | On what date was {e} completed?"),
        fact("euros", "{E} charges a toll of {v} per lorry. | The toll for a lorry at {e} is {v}.",
             "What is the toll for a lorry at {e}? | How much does a lorry pay at {e}?"),
        fact("colour", "{E} is painted {v}. | The paint of {e} is {v}.",
             "What colour is {e}? | In which colour is {e} painted?"),
    ),
)  # fmt: skip

PLACES = (MUSEUM, TOWN, SCHOOL, GARDEN, BRIDGE)
