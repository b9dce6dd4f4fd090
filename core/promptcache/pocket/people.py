"""Kinds of people and of what people make: persons, companies, products, festivals and ships."""

from __future__ import annotations

from promptcache.pocket.names import listed
from promptcache.pocket.world import Kind, fact

PERSON = Kind(
    "person",
    (),
    ("She", "He"),
    ("{E} likes to work early in the day.", "{E} is well known among friends.",
     "{E} has travelled widely."),
    ("A portrait hangs in the town hall.", "Long walks are a favourite pastime.",
     "Several newspapers have told the story.", "Letters arrive from many countries."),
    (
        fact("town", "{E} was born in {v}. | {E} comes from {v}. | The birthplace of {e} is {v}.",
             "Where was {e} born? | What is the birthplace of {e}? | In which town was {e} born?"),
        fact("date", "{E} was born on {v}. | The birthday of {e} is {v}.",
             "When was {e} born? | What is the birthday of {e}? | On what date was {e} born?"),
        fact("work", "{E} works as a {v}. | By profession {e} is a {v}.",
             "What does {e} do for a living? | What is the profession of {e}? | "
             "What does {e} work as?"),
        fact("company", "{E} works for {v}. | The employer of {e} is {v}.",
             "Which company does {e} work for? | Who is the employer of {e}?"),
        fact("subject", "{E} studied {v}. | At university {e} chose {v}.",
             "What did {e} study? | Which subject did {e} study?"),
        fact("town", "{E} lives in {v}. | The home of {e} is in {v}.",
             "Where does {e} live? | In which town does {e} live?"),
        fact("objects", "{E} collects {v}. | A hobby of {e} is collecting {v}.",
             "What does {e} collect? | What is the hobby of {e}?"),
        fact("person", "{E} is married to {v}. | {v} is married to {e}.",
             "Who is {e} married to? | What is the name of the person married to {e}?",
             role="the person married to {e}"),
        fact("year", "{E} won a medal in {v}. | In {v}, {e} won a medal.",
             "When did {e} win a medal? | In which year did {e} win a medal?",
             earlier="Who won a medal earlier, {a} or {b}?",
             later="Who won a medal later, {a} or {b}?"),
    ),
    personal=True,
)  # fmt: skip

COMPANY = Kind(
    "company",
    ("{} Works", "{} Mills", "{} Systems", "{} Foods", "{} Tools", "{} Motors", "{} Brothers",
     "{} Trading"),
    ("It", "The company"),
    ("{E} is a company with many customers.", "{E} is a growing company.",
     "{E} is a family company."),
    ("The canteen is praised by everyone.", "Orders come from many countries.",
     "Apprentices are trained every autumn.", "The office looks out on a canal."),
    (
        fact("year", "{E} was founded in {v}. | {E} was started in {v}. | In {v}, {e} was founded.",
             "When was {e} founded? | In which year was {e} founded? | What year was {e} started?",
             earlier="Which was founded earlier, {a} or {b}?",
             later="Which was founded later, {a} or {b}?"),
        fact("person", "{E} was founded by {v}. | The founder of {e} is {v}. | "
                       "{v} is the founder of {e}.",
             "Who founded {e}? | Who is the founder of {e}?", role="the founder of {e}"),
        fact("person", "{E} is run by {v}. | {v} is the chief executive of {e}.",
             "Who runs {e}? | Who is the chief executive of {e}?",
             role="the chief executive of {e}"),
        fact("town", "{E} has its head office in {v}. | The head office of {e} is in {v}.",
             "Where is the head office of {e}? | In which town is {e} based?"),
        fact("goods", "{E} makes {v}. | {E} produces {v}. | The main product of {e} is {v}.",
             "What does {e} make? | What is the main product of {e}? | What does {e} produce?"),
        fact("thousands", "{E} employs {v} people. | There are {v} employees at {e}.",
             "How many people work at {e}? | How many employees does {e} have? | "
             "How many people does {e} employ?",
             later="Which employs more people, {a} or {b}?"),
        fact("company", "{E} belongs to {v}. | The owner of {e} is {v}.",
             "Who owns {e}? | Which company does {e} belong to?"),
    ),
)  # fmt: skip

PRODUCT = Kind(
    "product",
    tuple(
        f"the {{}} {noun}"
        for noun in listed("kettle lamp bicycle camera radio drill heater printer")
    ),
    ("It", "The product"),
    ("{E} is made for daily use.", "{E} is easy to use.", "{E} is sold in many shops."),
    ("The manual is short and clear.", "Spare parts can be ordered by post.",
     "It comes in a plain cardboard box.", "Reviewers praised its simple design."),
    (
        fact("euros", "{E} costs {v}. | The price of {e} is {v}. | {E} sells for {v}.",
             "How much does {e} cost? | What is the price of {e}?",
             earlier="Which is cheaper, {a} or {b}?", later="Which is more expensive, {a} or {b}?"),
        fact("company", "{E} is made by {v}. | {v} is the maker of {e}.",
             "Who makes {e}? | Which company makes {e}? | Who is the maker of {e}?"),
        fact("kilograms", "{E} weighs {v}. | The weight of {e} is {v}.",
             "How much does {e} weigh? | What is the weight of {e}?",
             earlier="Which is lighter, {a} or {b}?", later="Which is heavier, {a} or {b}?"),
        fact("colour", "{E} comes in {v}. | The colour of {e} is {v}.",
             "What colour is {e}? | In which colour does {e} come?"),
        fact("material", "{E} has a body of {v}. | The body of {e} is made of {v}.",
             "What is the body of {e} made of? | Which material is the body of {e} made of?"),
        fact("person", "{E} was invented by {v}. | The inventor of {e} is {v}.",
             "Who invented {e}? | Who is the inventor of {e}?", role="the inventor of {e}"),
        fact("hours", "{E} has a battery that lasts {v}. | The battery of {e} lasts {v}.",
             "How long does the battery of {e} last? | What is the battery life of {e}?",
             later="Which has the longer battery life, {a} or {b}?"),
        fact("date", "{E} went on sale on {v}. | The first sale of {e} was on {v}.",
             "When did {e} go on sale? | On what date did {e} go on sale?"),
    ),
)  # fmt: skip

FESTIVAL = Kind(
    "festival",
    ("the {} Festival", "the {} Fair", "the {} Games"),
    ("It", "The event"),
    ("{E} is held every year.", "{E} is a cheerful event.",
     "{E} is an event for the whole family."),
    ("Music is played until late.", "The weather is usually fine.",
     "Children get a free drink.", "Posters appear months before."),
    (
        fact("town", "{E} takes place in {v}. | The host town of {e} is {v}.",
             "Where does {e} take place? | Which town hosts {e}?"),
        fact("date", "{E} begins on {v}. | The opening day of {e} is {v}.",
             "When does {e} begin? | What is the opening day of {e}?"),
        fact("person", "{E} is organised by {v}. | The organiser of {e} is {v}.",
             "Who organises {e}? | Who is the organiser of {e}?", role="the organiser of {e}"),
        fact("company", "{E} is paid for by {v}. | The sponsor of {e} is {v}.",
             "Who sponsors {e}? | Which company is the sponsor of {e}?"),
        fact("thousands", "{E} expects {v} guests. | About {v} guests come to {e}.",
             "How many guests come to {e}? | How many guests does {e} expect?",
             later="Which has more guests, {a} or {b}?"),
        fact("food", "{E} is loved for its {v}. | At {e} everyone eats {v}.",
             "What do people eat at {e}? | Which food is {e} loved for?"),
        fact("euros", "{E} gives a first prize of {v}. | The first prize at {e} is {v}.",
             "What is the first prize at {e}? | How much is the first prize at {e}?",
             later="Which gives the larger prize, {a} or {b}?"),
    ),
)  # fmt: skip

SHIP = Kind(
    "ship",
    ("the ship {}", "the ferry {}", "the steamer {}"),
    ("It", "The vessel"),
    ("{E} is still at sea.", "{E} is a handsome vessel.", "{E} is known in every harbour."),
    ("The crew keeps the deck very clean.", "A bell rings before each departure.",
     "Photographs of it hang in the cabins.", "The engine was replaced once."),
    (
        fact("person", "{E} is commanded by captain {v}. | The captain of {e} is {v}.",
             "Who is the captain of {e}? | Who commands {e}?", role="the captain of {e}"),
        fact("town", "{E} has its home port in {v}. | The home port of {e} is {v}.",
             "What is the home port of {e}? | Where is the home port of {e}?"),
        fact("metres", "{E} measures {v} from bow to stern. | From bow to stern {e} measures {v}.",
             "How long is {e}? | What is the length of {e}?", later="Which is longer, {a} or {b}?"),
        fact("year", "{E} was launched in {v}. | The launch of {e} was in {v}.",
             "When was {e} launched? | In which year was {e} launched?",
             earlier="Which was launched earlier, {a} or {b}?",
             later="Which was launched later, {a} or {b}?"),
        fact("goods", "{E} carries {v}. | The usual cargo of {e} is {v}.",
             "What does {e} carry? | What is the usual cargo of {e}?"),
        fact("count", "{E} has a crew of {v}. | The crew of {e} numbers {v}.",
             "How large is the crew of {e}? | How many people are in the crew of {e}?",
             later="Which has the larger crew, {a} or {b}?"),
        fact("company", "{E} is owned by {v}. | The owner of {e} is {v}.",
             "Who owns {e}? | Which company owns {e}?"),
    ),
)  # fmt: skip

PEOPLE = (PERSON, COMPANY, PRODUCT, FESTIVAL, SHIP)
