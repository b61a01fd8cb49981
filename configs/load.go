package configs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"
	"time"

	"labgate/lab"
	"labgate/safety"
)

// Config is a lab with everything that its folder says.
type Config struct {
	Lab      *lab.Lab
	Classes  map[string]*lab.Class   // all that are known, by name
	Profiles map[string]*lab.Profile // all that are known, by name

	Interlocks     []byte        // nil: the lab has none
	InterlocksFile string        // for messages
	InterlocksPath string        // within the lab's folder; empty: the lab has none
	Rules          *safety.Rules // the interlocks, compiled, with the limits of the lab file
	ProtocolFiles  map[string][]byte
	Access         []byte // nil: the lab file names none
	AccessFile     string // for messages
	Principals     []Principal
	Approvals      Approvals

	NATS        NATSConfig
	StartWithin time.Duration
	Assemblies  []Assembly
}

// Bounds on what is read.
const (
	maxFile  = 1 << 20 // bytes; package strict refuses larger ones
	maxFiles = 1000    // in one folder tree
)

// Load reads a lab folder: lab.yaml and what it names, its own classes/ and
// profiles/ if they are there, and the built-in ones. name is the folder as
// the user typed it, for messages. The error is a lab.Issues with every issue
// of every file.
func Load(folder fs.FS, name string) (*Config, error) {
	l := &loader{
		config: &Config{Classes: map[string]*lab.Class{}, Profiles: map[string]*lab.Profile{}, ProtocolFiles: map[string][]byte{}},
		source: map[string][]byte{},
	}
	builtin := tree{embedded, "built-in"}
	own := tree{folder, name}
	l.classes(builtin, own)
	l.profiles(builtin, own)
	l.lab(own)
	l.rules()
	l.issues.Sort()
	if err := l.issues.Err(); err != nil {
		return nil, err
	}
	return l.config, nil
}

// tree is a file system and what it is called in messages.
type tree struct {
	fs   fs.FS
	name string
}

func (t tree) say(file string) string { return path.Join(t.name, file) }

type loader struct {
	config *Config
	issues lab.Issues
	source map[string][]byte // what the hash is over, by kind and name
}

func (l *loader) add(file, code, hint, format string, args ...any) {
	l.issues.Add(lab.Pos{File: file}, code, hint, format, args...)
}

// file reads one file. ok is false where it could not be read, which was
// reported.
func (l *loader) file(t tree, file string, from lab.Pos) (data []byte, ok bool) {
	data, err := read(t.fs, file)
	if err == nil {
		return data, true
	}
	if from == (lab.Pos{}) {
		from.File = t.say(file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		l.issues.Add(from, "no_such_file", "", "there is no file %s", t.say(file))
	} else {
		l.issues.Add(from, "unreadable", "", "%s can't be read: %v", t.say(file), cause(err))
	}
	return nil, false
}

// read reads a file, one byte more than may be of it: package strict then says
// that it is too large.
func read(f fs.FS, file string) (data []byte, err error) {
	h, err := f.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return io.ReadAll(io.LimitReader(h, maxFile+1))
}

// cause is an error without the path, which the message has already.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// walk lists the .yaml files of a folder and those below it, in order. A
// folder that is not there has none.
func (l *loader) walk(t tree, dir string) []string {
	var files []string
	err := fs.WalkDir(t.fs, dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && p == dir && errors.Is(err, fs.ErrNotExist):
			return fs.SkipAll
		case err != nil:
			return err
		case d.IsDir() && p != dir && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir() || strings.HasPrefix(d.Name(), "."):
			return nil
		}
		switch path.Ext(p) {
		case ".yaml":
			files = append(files, p)
		case ".yml", ".YAML", ".YML":
			l.add(t.say(p), "bad_path", "name it .yaml", "this file would be left out for its name")
		}
		if len(files) > maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		return nil
	})
	if err != nil {
		l.add(t.say(dir), "unreadable", "", "%s can't be read: %v", t.say(dir), cause(err))
	}
	return files
}

// classes reads all class files. One with an issue is known by name, with a
// nil class.
func (l *loader) classes(trees ...tree) {
	at := map[string]lab.Pos{}
	for _, t := range trees {
		for _, file := range l.walk(t, "classes") {
			data, ok := l.file(t, file, lab.Pos{})
			if !ok {
				continue
			}
			c, is := parseClass(t.say(file), data)
			l.issues = append(l.issues, is...)
			if c == nil || c.Name == "" || !l.first(at, "class", c.Name, c.Pos) {
				continue
			}
			if l.config.Classes[c.Name] = c; len(is) > 0 {
				l.config.Classes[c.Name] = nil
			}
			l.source["class "+c.Name] = data
		}
	}
}

// profiles reads all profile files.
func (l *loader) profiles(trees ...tree) {
	at := map[string]lab.Pos{}
	for _, t := range trees {
		for _, file := range l.walk(t, "profiles") {
			data, ok := l.file(t, file, lab.Pos{})
			if !ok {
				continue
			}
			p, whole, is := parseProfile(t.say(file), data, l.config.Classes)
			l.issues = append(l.issues, is...)
			if p == nil || p.Name == "" || !l.first(at, "profile", p.Name, p.Pos) {
				continue
			}
			if l.config.Profiles[p.Name] = p; len(is) > 0 || !whole {
				l.config.Profiles[p.Name] = nil
			}
			l.source["profile "+p.Name] = data
		}
	}
}

// first reports a name that two files claim.
func (l *loader) first(at map[string]lab.Pos, what, name string, p lab.Pos) bool {
	if first, ok := at[name]; ok {
		l.issues.Add(p, "duplicate", "give it another version", "%s %s is there already, at %s", what, name, first)
		return false
	}
	at[name] = p
	return true
}

// lab reads lab.yaml and the files that it names.
func (l *loader) lab(t tree) {
	data, ok := l.file(t, "lab.yaml", lab.Pos{})
	if !ok {
		return
	}
	la, more, _, is := parseLab(t.say("lab.yaml"), data, l.config.Profiles)
	l.issues = append(l.issues, is...)
	if la == nil {
		return
	}
	l.source["lab"] = data
	c := l.config
	c.Lab, c.NATS, c.StartWithin, c.Assemblies = la, more.NATS, more.StartWithin, more.Assemblies
	if f := more.Interlocks; f.Path != "" {
		c.InterlocksPath = f.Path
		if c.Interlocks, ok = l.file(t, f.Path, f.Pos); ok {
			c.InterlocksFile = t.say(f.Path)
			l.source["interlocks"] = c.Interlocks
		}
	}
	if f := more.Access; f.Path != "" {
		if c.Access, ok = l.file(t, f.Path, f.Pos); ok {
			c.AccessFile = t.say(f.Path)
			var a Access
			a, is = ParseAccess(c.AccessFile, c.Access)
			c.Principals, c.Approvals = a.Principals, a.Approvals
			l.issues = append(l.issues, is...)
		}
	}
	if f := more.Protocols; f.Path != "" {
		for _, file := range l.walk(t, f.Path) {
			if data, ok := l.file(t, file, lab.Pos{}); ok {
				c.ProtocolFiles[t.say(file)] = data
			}
		}
	}
}

// noRules stands for the interlocks of a lab that has none.
const noRules = "interlocks: none\nrules: []\n"

// rules compiles the interlocks, for a lab that is otherwise sound.
func (l *loader) rules() {
	c := l.config
	if len(l.issues) > 0 {
		return
	}
	c.Lab.Hash = l.hash()
	data := c.Interlocks
	if data == nil {
		data = []byte(noRules) // the limits of the lab file hold all the same
	}
	var is lab.Issues
	c.Rules, is = safety.Parse(c.InterlocksFile, data, c.Lab)
	l.issues = append(l.issues, is...)
}

// ReloadRules reads the interlocks of the lab again, for the lab as it was
// loaded: nothing else of the folder is read. With any issue, all of which the
// error (a lab.Issues) lists, there are no rules.
func (c *Config) ReloadRules(folder fs.FS) (*safety.Rules, error) {
	data := []byte(noRules)
	if c.InterlocksPath != "" {
		var err error
		if data, err = read(folder, c.InterlocksPath); err != nil {
			is := lab.Issues{}
			is.Add(lab.Pos{File: c.InterlocksFile}, "unreadable", "", "%s can't be read: %v", c.InterlocksFile, cause(err))
			return nil, is
		}
	}
	rules, is := safety.Parse(c.InterlocksFile, data, c.Lab)
	if len(is) > 0 {
		return nil, is
	}
	return rules, nil
}

// hash is over the lab file, the interlocks, and the profiles and classes that
// the lab uses: what decides how the lab behaves. Who may ask and which
// protocols are installed are not part of it, so that vetting somebody does
// not make a verdict outdated.
func (l *loader) hash() string {
	used := map[string]bool{"lab": true, "interlocks": true}
	for _, in := range l.config.Lab.Instruments {
		used["profile "+in.Profile.Name] = true
		for _, c := range in.Profile.Components {
			used["class "+c.Class.Name] = true
		}
	}
	var names []string
	for n := range l.source {
		if used[n] {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	h := sha256.New()
	for _, n := range names {
		fmt.Fprintf(h, "%s %d\n", n, len(l.source[n]))
		h.Write(l.source[n])
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
