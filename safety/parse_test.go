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
