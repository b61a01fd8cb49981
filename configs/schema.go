package configs

import _ "embed" // for the schemas

// The JSON Schemas of the files that this package reads, and of a lab's
// interlocks, for editors and forms. A schema knows the keys, the words and
// the shapes; whether names resolve, units fit and expressions compile, only
// the reading itself can tell. So whatever is read without an issue passes its
// schema, and not the other way round.
var (
	//go:embed schema/lab.json
	LabSchema []byte
	//go:embed schema/profile.json
	ProfileSchema []byte
	//go:embed schema/class.json
	ClassSchema []byte
	//go:embed schema/access.json
	AccessSchema []byte
	//go:embed schema/interlocks.json
	InterlocksSchema []byte
)
