package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"sort"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// This file is the layering of the house. Every package has a row in rows,
// which lists what it may import of ours and of others, and says what the row
// stands on. A new import is allowed by writing it into its row, where a
// reviewer sees it.

// row is what one package may import, outside its tests.
type row struct {
	pure  bool     // events and time in, actions out: the bans of pureBans hold
	ours  []string // packages of this module; "*" for all
	third []string // modules of others; "*" for all
	std   []string // exceptions from the bans on the standard library
	why   string
}

var rows = map[string]row{
	"": {ours: []string{"*"}, third: []string{"*"}, why: "main joins the parts: commands and wiring, nothing else"},

	// The vocabulary and the pure rooms.
	"lab":       {pure: true, why: "the vocabulary stands on nothing, so that everything may stand on it"},
	"lab/expr":  {pure: true, ours: []string{"lab"}, why: "one expression language for protocols, interlocks and classes"},
	"lab/frame": {pure: true, ours: []string{"lab"}, why: "serial frames as data: the driver sends them, the loader checks them, admission asks whether they are exact"},
	"messages":  {pure: true, ours: []string{"lab"}, why: "documents are read and written without any of the parts that send them"},
	"protocols": {pure: true, ours: []string{"lab", "lab/expr", "internal/strict"}, why: "a protocol is checked and planned before anything is connected"},
	"safety":    {pure: true, ours: []string{"lab", "lab/expr", "internal/strict"}, std: []string{"testing"}, why: "rules and decisions depend on nobody whom they judge; testing: test permits refuse to exist outside test binaries"},
	"safety/preflight": {pure: true, ours: []string{"lab", "lab/expr", "protocols", "safety"},
		why: "plans are proved against rules; neither runner nor gateway has a say in it"},
	"safety/analysis": {pure: true, ours: []string{"lab", "lab/expr", "safety", "internal/strict"},
		why: "rules are looked at and weakened without running them; who runs the cases on them is main's to say"},
	"runner": {pure: true, ours: []string{"lab", "lab/expr", "protocols", "safety/preflight", "messages"},
		why: "it plans and asks; it can't make a permit or touch an instrument"},
	"gateway": {pure: true, ours: []string{"lab", "lab/expr", "safety", "messages"},
		why: "it admits commands of whoever asks; it knows no protocols and no wires"},
	"configs": {pure: true, ours: []string{"lab", "lab/expr", "lab/frame", "protocols", "safety", "internal/strict"},
		why: "files become the vocabulary; they come as an fs.FS"},
	"sim":             {pure: true, ours: []string{"lab"}, why: "the world knows nothing of Labgate, so that its count of effects is a witness"},
	"internal/strict": {pure: true, ours: []string{"lab"}, third: []string{"go.yaml.in/yaml/v3"}, why: "bytes to positioned nodes"},
	"internal/twin": {pure: true, ours: []string{"lab", "messages", "protocols", "gateway", "runner", "safety", "safety/preflight", "sim", "drivers", "drivers/memory", "internal/journal/chain"},
		why: "the cores, the engine and the world in virtual time"},
	"internal/dst": {ours: []string{"lab", "lab/expr", "lab/frame", "messages", "protocols", "gateway", "runner", "safety", "safety/preflight", "sim", "configs", "internal/twin"},
		why: "the twin in a world where everything goes wrong; not pure: its randomness is a seeded generator of its own"},
	"internal/rulecases": {pure: true, ours: []string{"lab", "lab/expr", "messages", "gateway", "safety", "internal/strict"},
		why: "the gateway's core over scripted readings: rule cases need no world, no plan and no wire"},
	"internal/journal/chain": {pure: true, ours: []string{"lab"}, third: []string{"github.com/gowebpki/jcs"}, why: "what an entry's bytes and hash are is the same for the journal, the twin and whoever checks an export"},
	"internal/mailbox":       {pure: true, why: "a queue in memory"},

	// The shells.
	"gateway/service": {ours: []string{"internal/failpoint", "lab", "gateway", "configs", "messages", "safety", "drivers", "internal/journal", "internal/bus", "internal/mailbox"},
		why: "the gateway's shell; links come as drivers.Opener, so that it knows no wire"},
	"runner/service": {ours: []string{"internal/failpoint", "lab", "runner", "configs", "messages", "internal/journal", "internal/bus", "internal/mailbox"},
		why: "the runner's shell; it reaches gateways by messages only"},
	"internal/bus": {ours: []string{"lab"}, third: []string{"github.com/nats-io/nats-server/v2", "github.com/nats-io/nats.go", "github.com/nats-io/nkeys"},
		why: "NATS, and nothing else knows that it is NATS"},
	"internal/journal": {ours: []string{"internal/failpoint", "internal/journal/chain", "internal/mailbox", "lab"}, third: []string{"github.com/mattn/go-sqlite3", "github.com/nats-io/nkeys"},
		why: "SQLite, and nothing else knows that it is SQLite; nkeys: checkpoints are signed by the station's key"},
	"internal/pki":       {why: "certificates of OPC UA in a folder: the standard library's, and nothing that could be told what to trust"},
	"internal/failpoint": {why: "moments at which a test kills the process; nothing at all in an ordinary build"},
	"internal/wall":      {third: []string{"github.com/oklog/ulid/v2"}, why: "the real clock and real ids"},
	"planner": {ours: []string{"lab", "messages", "internal/bus"}, third: []string{"gonum.org/v1/gonum"},
		why: "an agent like any other: it sees documents on the bus, never the parts behind them"},
	"report": {ours: []string{"lab", "messages", "planner"}, third: []string{"gonum.org/v1/plot"},
		why: "tables, plots and files out of documents"},

	// The wires. A driver and a face of the same wire share nothing: that is
	// what makes the one a test of the other.
	"drivers":            {ours: []string{"lab", "safety"}, why: "the contract of links; safety for the Permit"},
	"drivers/memory":     {pure: true, ours: []string{"lab", "safety", "drivers"}, why: "instruments inside the process"},
	"drivers/serial":     {ours: []string{"internal/failpoint", "lab", "lab/frame", "safety", "drivers"}, third: []string{"go.bug.st/serial"}, why: "serial lines"},
	"drivers/opcua":      {ours: []string{"internal/pki", "lab", "safety", "drivers"}, third: []string{"github.com/gopcua/opcua"}, why: "OPC UA clients"},
	"drivers/mqtt":       {ours: []string{"internal/pki", "internal/failpoint", "lab", "safety", "drivers"}, third: []string{"github.com/eclipse/paho.mqtt.golang"}, why: "MQTT clients"},
	"drivers/drivertest": {ours: []string{"lab", "safety", "drivers"}, third: []string{"go.uber.org/goleak"}, std: []string{"testing"}, why: "the conformance suite: only tests import it"},
	"sim/faces":          {ours: []string{"lab", "sim", "sim/faces/*"}, why: "the world on all its wires"},
	"sim/faces/wire":     {ours: []string{"lab", "sim"}, why: "what the faces share"},
	"sim/faces/serial":   {ours: []string{"lab", "sim", "sim/faces/wire"}, third: []string{"github.com/creack/pty", "golang.org/x/term"}, why: "pumps and stage on pseudo terminals"},
	"sim/faces/opcua":    {ours: []string{"lab", "sim", "sim/faces/wire"}, third: []string{"github.com/gopcua/opcua"}, why: "reactor and cell as OPC UA servers"},
	"sim/faces/mqtt":     {ours: []string{"lab", "sim", "sim/faces/wire"}, third: []string{"github.com/eclipse/paho.mqtt.golang"}, why: "the MQTT instruments"},

	// What outsiders would write.
	"docs/examples/agent":  {third: []string{"github.com/nats-io/nats.go", "github.com/nats-io/nkeys"}, why: "an outside client: nothing of ours, or it proves nothing"},
	"docs/examples/simctl": {why: "an outside client: nothing of ours, or it proves nothing"},
}

// bans are the imports that no row may allow, with their reasons. The first
// that fits is told.
var bans = []struct {
	from, to string   // patterns: a package, "x/*" for x and all below it, "*" for all
	but      []string // importers that may
	why      string
}{
	{"runner/*", "gateway/*", nil, "the runner can't approve itself: it asks a gateway by messages, as anybody else would"},
	{"runner/*", "drivers/*", nil, "the runner can't touch an instrument: what it wants done it asks a gateway for"},
	{"*", "sim/*", []string{"", "sim/*", "internal/twin", "internal/dst"}, "only main, tests and the twin know the simulated world: nothing that runs a real laboratory may depend on it"},
	{"*", "drivers/drivertest", nil, "it is for tests"},
	{"*", "drivers/memory", []string{"", "internal/twin", "internal/dst"}, "which driver serves an instrument is main's to say; the rest knows only the contract in package drivers"},
	{"*", "drivers/serial", []string{""}, "which driver serves an instrument is main's to say; the rest knows only the contract in package drivers"},
	{"*", "drivers/opcua", []string{""}, "which driver serves an instrument is main's to say; the rest knows only the contract in package drivers"},
	{"*", "drivers/mqtt", []string{""}, "which driver serves an instrument is main's to say; the rest knows only the contract in package drivers"},
	{"sim/*", "drivers/*", nil, "what drivers are tested against shares no code with them"},
	{"docs/*", "*", nil, "an example is an outside client: with anything of ours in it, it would prove nothing"},
	{"lab/*", "safety", nil, "the vocabulary stands on nothing"},
	{"safety/*", "gateway/*", nil, "rules depend on nobody whom they judge"},
	{"safety/*", "runner/*", nil, "rules depend on nobody whom they judge"},
}

// pureBans are what pure packages may not import of the standard library.
var pureBans = []struct{ to, why string }{
	{"net/*", "it speaks to nobody: wires belong to its shell"},
	{"os/*", "files, processes and the environment belong to shells, which pass bytes"},
	{"path/filepath", "it knows no file system of this machine; shells pass bytes or an fs.FS"},
	{"io/ioutil", "files belong to shells, which pass bytes"},
	{"syscall", "it knows no machine"},
	{"unsafe", "it knows no machine"},
	{"plugin", "it knows no machine"},
	{"database/*", "what is kept is its shell's to keep: the core asks for it"},
	{"math/rand/*", "randomness is an argument, or a run can't be repeated"},
	{"crypto/rand", "randomness is an argument (lab.IDs), or a run can't be repeated"},
	{"log/*", "what it has to say it returns"},
	{"expvar", "what it has to say it returns"},
	{"testing/*", "test helpers of a running gateway are for tests"},
}

// pureCalls are what pure packages may not use of packages that they may
// import.
var pureCalls = map[string]map[string]string{
	"time": {
		"Now": readsClock, "Since": readsClock, "Until": readsClock, "Sleep": waits, "After": waits, "AfterFunc": waits, "Tick": waits,
		"NewTimer": waits, "NewTicker": waits, "Local": "the machine's time zone is not an argument; write times in UTC",
	},
	"fmt":     {"Print": prints, "Printf": prints, "Println": prints, "Scan": prints, "Scanf": prints, "Scanln": prints},
	"context": {"WithTimeout": waits, "WithDeadline": waits, "WithTimeoutCause": waits, "WithDeadlineCause": waits, "AfterFunc": waits},
}

const (
	readsClock = "time is an argument: the core must do the same in virtual time"
	waits      = "a core never waits: its Next says when it wants to be called"
	prints     = "what it has to say it returns"
	starts     = "a pure package starts no goroutine: its shell owns them, and the twin has none"
)

// testBans hold for the tests of pure packages. They may read golden files.
var testBans = []struct{ to, why string }{
	{"net/*", "the test of a pure package needs no wire; a test that does is its shell's"},
	{"os/exec", "the test of a pure package starts no process"},
	{"os/signal", "the test of a pure package gets no signals"},
	{"database/*", "the test of a pure package needs no database"},
	{"labgate/internal/journal", "the test of a pure package needs no disk"},
	{"labgate/internal/bus", "the test of a pure package needs no bus"},
}

// testCalls hold for the tests of pure packages.
var testCalls = map[string]map[string]string{
	"time": {"Sleep": "time is an argument: a test says what time it is, and never waits for it"},
}

func TestImports(t *testing.T) {
	list, err := sourceTree(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 100 {
		t.Fatalf("only %d source files found: this test does not see the module", len(list))
	}
	problems := check(list, rows)
	for _, p := range problems {
		t.Error(p)
	}
	if len(problems) > 0 {
		t.Log("the table of who may import whom, with its reasons, is in imports_test.go")
	}
}

// source is one file of the module.
type source struct {
	name string // path in the module
	pkg  string // the package's folder; "" for the root
	test bool
	fset *token.FileSet
	file *ast.File
}

// sourceTree parses every Go file of a module, whatever its build constraints.
func sourceTree(root fs.FS) ([]*source, error) {
	var list []*source
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if name != "." && (base == "testdata" || base == "vendor" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
				return fs.SkipDir
			}
			if _, err := fs.Stat(root, path.Join(name, "go.mod")); name != "." && err == nil {
				return fs.SkipDir // another module
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
			return nil
		}
		data, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		s := &source{name: name, pkg: path.Dir(name), test: strings.HasSuffix(base, "_test.go"), fset: token.NewFileSet()}
		if s.pkg == "." {
			s.pkg = ""
		}
		s.file, err = parser.ParseFile(s.fset, name, data, parser.SkipObjectResolution)
		list = append(list, s)
		return err
	})
	return list, err
}

// check lists every offence against the table, one a line, with the reason.
func check(list []*source, rows map[string]row) []string {
	var problems []string
	found := map[string]bool{}
	for _, s := range list {
		found[s.pkg] = found[s.pkg] || !s.test
		r, known := rows[s.pkg]
		switch {
		case !known && !s.test:
			problems = append(problems, fmt.Sprintf("%s: package %s is in no row of the table: add it, with what it may import and the reason", s.name, ourPath(s.pkg)))
		case known && s.test:
			problems = append(problems, s.checkTest(r)...)
		case known:
			problems = append(problems, s.check(r)...)
		}
	}
	for pkg := range rows {
		if !found[pkg] {
			problems = append(problems, fmt.Sprintf("package %s has a row in the table and no source: take the row out", ourPath(pkg)))
		}
	}
	sort.Strings(problems)
	var unique []string
	for i, p := range problems {
		if i == 0 || p != problems[i-1] {
			unique = append(unique, p)
		}
	}
	return unique
}

func ourPath(pkg string) string { return strings.TrimSuffix("labgate/"+pkg, "/") }

// check is one file outside tests.
func (s *source) check(r row) []string {
	var out []string
	for _, spec := range s.file.Imports {
		to := unquote(spec.Path.Value)
		problem := ""
		ours, isOurs := strings.CutPrefix(to+"/", "labgate/")
		switch {
		case isOurs:
			problem = checkOurs(s.pkg, strings.TrimSuffix(ours, "/"), r)
		case strings.Contains(strings.SplitN(to, "/", 2)[0], "."):
			if !matches(to, r.third) {
				problem = fmt.Sprintf("modules of others are named in its row, which allows %s (%s)", listOf(r.third), r.why)
			}
		case r.pure && !matches(to, r.std):
			for _, b := range pureBans {
				if problem == "" && match(b.to, to) {
					problem = "it is pure: " + b.why
				}
			}
		}
		if spec.Name != nil && spec.Name.Name == "." {
			out = append(out, s.at(spec, "imports "+to+" with a dot: nobody can see what comes from where"))
		}
		if problem != "" {
			out = append(out, s.at(spec, fmt.Sprintf("%s may not import %s: %s", ourPath(s.pkg), to, problem)))
		}
	}
	if r.pure {
		out = append(out, s.calls(pureCalls, starts)...)
	}
	return out
}

func checkOurs(from, to string, r row) string {
	for _, b := range bans {
		if match(b.from, from) && match(b.to, to) && !matches(from, b.but) {
			return b.why
		}
	}
	if !matches(to, r.ours) {
		return fmt.Sprintf("its row allows %s (%s); if it must, add it there with the reason", listOf(r.ours), r.why)
	}
	return ""
}

// checkTest is one test file. Tests may import what they like of ours and of
// others; those of pure packages may not need a machine.
func (s *source) checkTest(r row) []string {
	if !r.pure {
		return nil
	}
	var out []string
	for _, spec := range s.file.Imports {
		to := unquote(spec.Path.Value)
		for _, b := range testBans {
			if match(b.to, to) {
				out = append(out, s.at(spec, fmt.Sprintf("a test of %s may not import %s: %s", ourPath(s.pkg), to, b.why)))
			}
		}
	}
	return append(out, s.calls(testCalls, "")...)
}

// calls finds selectors of packages that are banned, and go statements where
// goes says why there are none.
func (s *source) calls(banned map[string]map[string]string, goes string) []string {
	names := map[string]string{} // as imported here, to the path
	for _, spec := range s.file.Imports {
		to := unquote(spec.Path.Value)
		name := path.Base(to)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = to
	}
	var out []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			if goes != "" {
				out = append(out, s.at(n, ourPath(s.pkg)+" may not start a goroutine: "+goes))
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				break
			}
			if why := banned[names[x.Name]][n.Sel.Name]; why != "" {
				out = append(out, s.at(n, fmt.Sprintf("%s may not use %s.%s: %s", ourPath(s.pkg), names[x.Name], n.Sel.Name, why)))
			}
		}
		return true
	})
	return out
}

func (s *source) at(n ast.Node, say string) string {
	return fmt.Sprintf("%s:%d: %s", s.name, s.fset.Position(n.Pos()).Line, say)
}

func unquote(lit string) string {
	s, err := strconv.Unquote(lit)
	if err != nil {
		return lit // the parser takes no other
	}
	return s
}

// match: "*" is everything, "x/*" is x and all below it; a module's path is
// that of its packages too.
func match(pattern, name string) bool {
	below, deep := strings.CutSuffix(pattern, "/*")
	switch {
	case pattern == "*" || pattern == name:
		return true
	case deep:
		return name == below || strings.HasPrefix(name, below+"/")
	}
	module := strings.Contains(strings.SplitN(pattern, "/", 2)[0], ".")
	return module && strings.HasPrefix(name, pattern+"/")
}

func matches(name string, patterns []string) bool {
	for _, p := range patterns {
		if match(p, name) {
			return true
		}
	}
	return false
}

func listOf(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// TestImportsCatch breaks each rule once, and reads what is said about it.
func TestImportsCatch(t *testing.T) {
	for _, c := range []struct{ name, file, text, want string }{
		{"allowed", "runner/a.go", `package runner; import ("time"; "labgate/lab"; "labgate/safety/preflight"); var _ = time.Second`, ""},
		{"runner to gateway", "runner/a.go", `package runner; import _ "labgate/gateway"`, "runner/a.go:1: labgate/runner may not import labgate/gateway: the runner can't approve itself"},
		{"runner's shell to gateway", "runner/service/a.go", `package service; import _ "labgate/gateway/service"`, "can't approve itself"},
		{"runner to a driver", "runner/service/a.go", `package service; import _ "labgate/drivers"`, "can't touch an instrument"},
		{"shell to the world", "gateway/service/a.go", `package service; import _ "labgate/sim"`, "only main, tests and the twin"},
		{"shell to a driver", "gateway/service/a.go", `package service; import _ "labgate/drivers/mqtt"`, "main's to say"},
		{"face to a driver", "sim/faces/mqtt/a.go", `package mqtt; import _ "labgate/drivers"`, "shares no code"},
		{"example with ours", "docs/examples/agent/a.go", `package main; import _ "labgate/lab"`, "an outside client"},
		{"not in the row", "protocols/a.go", `package protocols; import _ "labgate/messages"`, "its row allows lab, lab/expr, internal/strict (a protocol is checked"},
		{"main may", "a.go", `package main; import (_ "labgate/sim"; _ "labgate/drivers/mqtt"; _ "github.com/alecthomas/kong")`, ""},
		{"others not in the row", "report/a.go", `package report; import _ "github.com/nats-io/nats.go"`, "modules of others are named in its row, which allows gonum.org/v1/plot"},
		{"others in the row", "report/a.go", `package report; import _ "gonum.org/v1/plot/vg"`, ""},
		{"others with a longer name", "report/a.go", `package report; import _ "gonum.org/v1/plotter"`, "modules of others"},
		{"unknown package", "clever/a.go", `package clever`, "package labgate/clever is in no row of the table: add it"},
		{"net", "gateway/a.go", `package gateway; import _ "net/http"`, "it is pure: it speaks to nobody"},
		{"os", "sim/a.go", `package sim; import _ "os"`, "belong to shells"},
		{"rand", "sim/a.go", `package sim; import _ "math/rand/v2"`, "randomness is an argument"},
		{"testing", "gateway/a.go", `package gateway; import _ "testing"`, "are for tests"},
		{"testing where its row says so", "safety/a.go", `package safety; import _ "testing"`, ""},
		{"clock", "gateway/a.go", `package gateway; import "time"; var T = time.Now()`, "labgate/gateway may not use time.Now: time is an argument"},
		{"clock as a value", "gateway/a.go", `package gateway; import "time"; var f = time.Now`, "time is an argument"},
		{"clock by another name", "gateway/a.go", `package gateway; import t "time"; var f = t.Since`, "may not use time.Since"},
		{"timer", "runner/a.go", `package runner; import "time"; var f = time.NewTimer`, "a core never waits"},
		{"goroutine", "sim/a.go", `package sim; func f() { go f() }`, "starts no goroutine"},
		{"goroutine in a shell", "gateway/service/a.go", `package service; func f() { go f() }`, ""},
		{"print", "safety/a.go", `package safety; import "fmt"; func f() { fmt.Println() }`, "it returns"},
		{"dot", "gateway/service/a.go", `package service; import . "time"; var _ = Second`, "with a dot"},
		{"another platform", "sim/a_windows.go", "//go:build windows\n\npackage sim\n\nimport _ \"syscall\"", "it knows no machine"},
		{"test of a pure package", "sim/a_test.go", `package sim; import (_ "os"; _ "labgate/gateway"; _ "pgregory.net/rapid")`, ""},
		{"test with a wire", "sim/a_test.go", `package sim; import _ "net"`, "needs no wire"},
		{"test that sleeps", "gateway/a_test.go", `package gateway; import "time"; func f() { time.Sleep(1) }`, "never waits for it"},
		{"test of a shell", "gateway/service/a_test.go", `package service; import (_ "net"; _ "labgate/sim"; _ "labgate/drivers/memory")`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			pkg := path.Dir(c.file)
			if pkg == "." {
				pkg = ""
			}
			list, err := sourceTree(fstest.MapFS{c.file: {Data: []byte(c.text)}, "testdata/x.go": {Data: []byte("broken")}})
			if err != nil {
				t.Fatal(err)
			}
			only := map[string]row{}
			if r, ok := rows[pkg]; ok {
				only[pkg] = r
			}
			var got []string
			for _, p := range check(list, only) {
				if !strings.Contains(p, "no source") {
					got = append(got, p)
				}
			}
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if got := check(nil, map[string]row{"gone": {}}); len(got) != 1 || !strings.Contains(got[0], "take the row out") {
		t.Errorf("a row without a package: %q", got)
	}
}
