"""Word lists that several tasks draw from: common, short, and mostly one token each."""

NAMES = (
    "Aaron", "Adam", "Alan", "Alex", "Alice", "Amy", "Andrew", "Anna", "Anthony", "Arthur", "Ben",
    "Brian", "Bruce", "Carl", "Charles", "Chris", "Crystal", "Daniel", "David", "Dean", "Diana",
    "Edward", "Elizabeth", "Emily", "Eric", "Frank", "Fred", "Gary", "George", "Grace", "Grant",
    "Harry", "Helen", "Henry", "Ian", "Jack", "Jacob", "James", "Jane", "Jason", "Jeff", "Jennifer",
    "Jessica", "Jim", "Joe", "John", "Jonathan", "Jordan", "Joseph", "Josh", "Julia", "Justin", "Kate",
    "Kelly", "Kevin", "Kyle", "Laura", "Lauren", "Leon", "Linda", "Lisa", "Louis", "Lucas", "Lucy",
    "Luke", "Marcus", "Maria", "Mark", "Martin", "Mary", "Matt", "Matthew", "Michael", "Michelle",
    "Mike", "Neil", "Nick", "Oliver", "Patrick", "Paul", "Peter", "Philip", "Rachel", "Richard",
    "Robert", "Roger", "Rose", "Roy", "Ryan", "Sam", "Samuel", "Sarah", "Scott", "Sean", "Simon",
    "Stephen", "Steve", "Susan", "Taylor", "Thomas", "Tim", "Tom", "Tony", "Victoria", "Vincent",
    "Walter", "William",
)  # fmt: skip
PLACES = (
    "school", "store", "park", "garden", "house", "office", "hospital", "station", "restaurant",
    "market", "library", "beach",
)  # fmt: skip
OBJECTS = (
    "drink", "book", "ring", "ball", "letter", "computer", "basket", "kiss", "bone", "necklace", "card",
    "watch",
)  # fmt: skip
