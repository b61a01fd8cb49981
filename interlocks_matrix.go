package main

import (
	"fmt"

	"labgate/safety/analysis"
)

type interlocksMatrixCmd struct {
	Lab string `help:"The lab whose rules are shown." default:"demo" placeholder:"DIR"`
	CSV bool   `name:"csv" help:"For spreadsheets: the whole table, unwrapped."`
}

// Run prints the cause-and-effect table.
func (c *interlocksMatrixCmd) Run(a *app) error {
	cfg, err := loadLab(c.Lab)
	if err != nil {
		return err
	}
	t := analysis.Matrix(cfg.Rules)
	switch {
	case a.json:
		a.line(t)
	case c.CSV:
		fmt.Fprint(a.out, t.CSV())
	default:
		fmt.Fprint(a.out, t.Text())
	}
	return nil
}
