package wordproblem

// The language is small on purpose: a name, an object or a number is one token, so that an argument is about twenty
// tokens long and a model of a million parameters has room for the skill of checking it.
var (
	names = []string{
		"Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ines", "Jan", "Kim", "Leo", "Mia", "Nils", "Olga",
		"Paul",
	}
	objects = []string{
		"apples", "books", "cards", "coins", "cups", "dolls", "eggs", "hats", "kites", "lamps", "nuts", "pens",
		"plums", "rings", "shells", "stamps",
	}
)

// A kind is a form of problem. In the wordings {A} and {B} are names, {o} the object, {n} and {m} the operands and {t}
// the result.
type kind struct {
	question string
	minus    bool
	// arguments are ways to give the whole solution. Each uses every slot, so that every error can stand in it.
	arguments []string
	// facts are single statements of a solution, for documents that judge one statement after another.
	facts []string
}

// result is the answer for operands a and b.
func (k *kind) result(a, b int) int {
	if k.minus {
		return a - b
	}
	return a + b
}

var kinds = []kind{
	{
		question: "{A} has {n} {o}. {B} gives {A} {m} more. How many {o} does {A} have now?",
		arguments: []string{
			"{A} has {n} {o} and gets {m} from {B}. {n} + {m} = {t}. So {A} has {t} {o}.",
			"{B} gives {m} {o} to {A}, who has {n}. That makes {n} + {m} = {t} {o}.",
			"{n} + {m} = {t} {o}, because {A} has {n} and gets {m} from {B}.",
		},
		facts: []string{"{A} has {n} {o}.", "{B} gives {m} {o}.", "{n} + {m} = {t}.", "{A} gets {m} {o} from {B}."},
	},
	{
		question: "{A} has {n} {o}. {A} gives {m} to {B}. How many {o} does {A} keep?",
		minus:    true,
		arguments: []string{
			"{A} has {n} {o} and gives {m} to {B}. {n} - {m} = {t}. So {A} keeps {t} {o}.",
			"{B} gets {m} of the {n} {o} that {A} has. That makes {n} - {m} = {t} {o}.",
			"{n} - {m} = {t} {o}, because {A} has {n} and gives {m} to {B}.",
		},
		facts: []string{"{A} has {n} {o}.", "{B} gets {m} {o}.", "{n} - {m} = {t}.", "{A} gives {m} {o} to {B}."},
	},
	{
		question: "{A} has {n} {o} and {B} has {m}. How many {o} do they have in all?",
		arguments: []string{
			"{A} has {n} {o} and {B} has {m}. {n} + {m} = {t}. So they have {t} {o}.",
			"The {n} {o} of {A} and the {m} of {B} are {n} + {m} = {t} {o}.",
			"{n} + {m} = {t} {o}, because {A} has {n} and {B} has {m}.",
		},
		facts: []string{"{A} has {n} {o}.", "{B} has {m} {o}.", "{n} + {m} = {t}.", "{A} and {B} have {t} {o}."},
	},
	{
		question: "{A} has {n} {o}. {B} has {m} more than {A}. How many {o} does {B} have?",
		arguments: []string{
			"{A} has {n} {o} and {B} has {m} more. {n} + {m} = {t}. So {B} has {t} {o}.",
			"{B} has {m} {o} more than the {n} of {A}. That makes {n} + {m} = {t} {o}.",
			"{n} + {m} = {t} {o}, because {B} has {m} more than {A} with {n}.",
		},
		facts: []string{"{A} has {n} {o}.", "{B} has {m} {o} more.", "{n} + {m} = {t}.", "{B} has {t} {o}."},
	},
	{
		question: "{A} has {n} {o}. {B} has {m} fewer than {A}. How many {o} does {B} have?",
		minus:    true,
		arguments: []string{
			"{A} has {n} {o} and {B} has {m} fewer. {n} - {m} = {t}. So {B} has {t} {o}.",
			"{B} has {m} {o} fewer than the {n} of {A}. That makes {n} - {m} = {t} {o}.",
			"{n} - {m} = {t} {o}, because {B} has {m} fewer than {A} with {n}.",
		},
		facts: []string{"{A} has {n} {o}.", "{B} has {m} {o} fewer.", "{n} - {m} = {t}.", "{B} has {t} {o}."},
	},
}
