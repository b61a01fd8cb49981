package configs

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// seeds adds every file of one kind, good and bad.
func seeds(f *testing.F, dir, prefix string) {
	add := func(fsys fs.FS, dir, prefix string) {
		err := fs.WalkDir(fsys, dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasPrefix(filepath.Base(p), prefix) || filepath.Ext(p) != ".yaml" {
				return err
			}
			data, err := fs.ReadFile(fsys, p)
			f.Add(data)
			return err
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	if dir != "" {
		add(embedded, dir, "")
	}
	add(os.DirFS("."), "testdata/bad", prefix)
}

// check: whatever the bytes, there is either something whole or issues, each
// with a place, never both and never neither.
func fuzzed(f *testing.F, what string) {
	classes, profiles := builtIn(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		v, is := parseAny(what+"-fuzz.yaml", data, classes, profiles)
		if nothing := reflect.ValueOf(v).IsZero(); nothing != (len(is) > 0) && !(what == "access" && nothing) {
			t.Fatalf("%d issues and %v", len(is), v)
		}
		for _, i := range is {
			if i.Pos.File == "" || i.Code == "" || i.Say == "" {
				t.Fatalf("an issue without a place, code or sentence: %#v", i)
			}
		}
	})
}

func FuzzParseClass(f *testing.F) {
	seeds(f, "classes", "class-")
	fuzzed(f, "class")
}

func FuzzParseProfile(f *testing.F) {
	seeds(f, "profiles", "profile-")
	fuzzed(f, "profile")
}

func FuzzParseLab(f *testing.F) {
	seeds(f, "labs", "lab-")
	fuzzed(f, "lab")
}

func FuzzParseAccess(f *testing.F) {
	seeds(f, "", "access-")
	f.Add(smallLab()["access.yaml"].Data)
	fuzzed(f, "access")
}
