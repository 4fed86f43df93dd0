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
MEN = (
    "Aaron", "Adam", "Alan", "Albert", "Andrew", "Anthony", "Arthur", "Ben", "Benjamin", "Bob", "Brian",
    "Bruce", "Carl", "Charles", "Christopher", "Colin", "Craig", "Daniel", "David", "Dennis", "Derek",
    "Donald", "Douglas", "Edward", "Eric", "Ethan", "Evan", "Frank", "Fred", "Gary", "George", "Gordon",
    "Graham", "Greg", "Harold", "Harry", "Henry", "Howard", "Hugh", "Ian", "Isaac", "Jack", "Jacob",
    "James", "Jason", "Jeff", "Jeremy", "Jim", "Joe", "John", "Jonathan", "Joseph", "Josh", "Justin",
    "Keith", "Kenneth", "Kevin", "Kyle", "Larry", "Lawrence", "Leonard", "Louis", "Luke", "Malcolm",
    "Marcus", "Martin", "Matthew", "Michael", "Nathan", "Neil", "Nicholas", "Oliver", "Patrick", "Paul",
    "Peter", "Philip", "Ralph", "Raymond", "Richard", "Robert", "Roger", "Ronald", "Roy", "Russell",
    "Ryan", "Samuel", "Scott", "Simon", "Stephen", "Steve", "Stuart", "Thomas", "Timothy", "Tom", "Tony",
    "Victor", "Vincent", "Walter", "Wayne", "William",
)  # fmt: skip
WOMEN = (
    "Abigail", "Alice", "Alison", "Amanda", "Amy", "Andrea", "Angela", "Ann", "Anna", "Anne", "Barbara",
    "Beth", "Betty", "Brenda", "Carol", "Caroline", "Catherine", "Charlotte", "Christina", "Christine",
    "Claire", "Clara", "Cynthia", "Deborah", "Diana", "Diane", "Donna", "Doris", "Dorothy", "Edith",
    "Elizabeth", "Ella", "Ellen", "Emily", "Emma", "Erica", "Esther", "Eva", "Evelyn", "Fiona",
    "Florence", "Frances", "Hannah", "Heather", "Helen", "Irene", "Isabel", "Jane", "Janet", "Jennifer",
    "Jessica", "Joan", "Joyce", "Judith", "Julia", "Julie", "Karen", "Kate", "Katherine", "Kathleen",
    "Laura", "Lauren", "Linda", "Lisa", "Louise", "Lucy", "Margaret", "Maria", "Marie", "Martha", "Mary",
    "Megan", "Melissa", "Michelle", "Molly", "Monica", "Nancy", "Natalie", "Nicole", "Nora", "Olivia",
    "Pamela", "Patricia", "Paula", "Rachel", "Rebecca", "Rosa", "Ruth", "Samantha", "Sandra", "Sarah",
    "Sharon", "Sophia", "Sophie", "Stephanie", "Susan", "Teresa", "Theresa", "Vanessa", "Victoria",
)  # fmt: skip
PLACES = (
    "school", "store", "park", "garden", "house", "office", "hospital", "station", "restaurant",
    "market", "library", "beach",
)  # fmt: skip
OBJECTS = (
    "drink", "book", "ring", "ball", "letter", "computer", "basket", "kiss", "bone", "necklace", "card",
    "watch",
)  # fmt: skip
