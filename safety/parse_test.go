package safety_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"labgate/safety"
)

// TestBadFiles compares all that is said about each bad file, word for word.
func TestBadFiles(t *testing.T) {
	l := demo(t).Lab
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d bad files (%v)", len(files), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			rules, is := safety.Parse(filepath.Base(f), data, l)
			if len(is) == 0 || rules != nil {
				t.Fatalf("nothing is wrong with it, or rules came back all the same: %v", is)
			}
			var b strings.Builder
			for _, i := range is {
				if i.Pos.File == "" || i.Pos.Line == 0 || i.Pos.Column == 0 || i.Code == "" {
					t.Errorf("an issue without a place or a code: %#v", i)
				}
				fmt.Fprintf(&b, "%s: %s\n", i.Code, i.Error())
			}
			golden(t, strings.TrimSuffix(f, ".yaml")+".golden", b.String())
		})
	}
}

// FuzzParse: whatever comes, there are issues or there are rules, never both
// and never a panic, and rules allow no less than nothing: every one of them
// has something to guard.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	c := demo(f)
	f.Add(c.Interlocks)
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, is := safety.Parse("fuzz.yaml", data, c.Lab)
		if (rules == nil) != (len(is) > 0) {
			t.Fatalf("rules %v with issues %v", rules, is)
		}
		if rules == nil {
			return
		}
		for _, r := range rules.Rules {
			watches := r.Kind == safety.TripRule || r.Kind == safety.AlarmRule
			if r.Kind == safety.TripRule && len(r.Do) == 0 || !watches && len(r.Targets) == 0 {
				t.Errorf("rule %q guards nothing", r.ID)
			}
		}
	})
}
