package dst

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

func TestOne(t *testing.T) {
	n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		t.Skip()
	}
	rep, err := Run(n, Options{Trace: true})
	if rep != nil {
		os.WriteFile("/tmp/trace.txt", rep.Trace, 0o644)
		for k, v := range rep.Text {
			os.WriteFile("/tmp/site-"+k, []byte(v), 0o644)
		}
		for _, h := range rep.Happenings {
			fmt.Println(h)
		}
		fmt.Println(rep.Violation)
	}
	if err != nil {
		t.Fatal(err)
	}
}
