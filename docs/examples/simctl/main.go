// Command simctl asks one thing of a running simulator, over the socket in its
// data folder: a fault, a knob, or the count of what really happened. It is
// how a person plays the world; Labgate itself never listens to this socket.
//
//	go run ./docs/examples/simctl '{"do":"set","name":"room.airflow","value":0}'
//
// docs/operations.md, "The simulated lab", lists what can be asked.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"
)

func main() {
	data := flag.String("data", "labgate-data/demo", "the simulator's data folder")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, `give one request, such as '{"do":"effects"}'`)
		os.Exit(2)
	}
	if err := ask(filepath.Join(*data, "sim.sock"), flag.Arg(0)); err != nil {
		log.Fatal("simctl: ", err)
	}
}

// ask sends one line and prints the answer, indented.
func ask(socket, request string) error {
	c, err := net.DialTimeout("unix", socket, 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c, request); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadBytes('\n')
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, line, "", "  "); err != nil {
		return err
	}
	fmt.Print(out.String())
	var reply struct{ OK bool }
	if err := json.Unmarshal(line, &reply); err != nil {
		return err
	}
	if !reply.OK {
		return fmt.Errorf("the simulator refused")
	}
	return nil
}
