// Package report renders what happened for people and their programs: tables
// on a terminal, plots as PNG, and a run's data as CSV and JSON in a folder.
//
// It promises that every number has its unit, and that what was refused or did
// not succeed is shown as such. In a campaign's table, a plot and an export,
// text from instruments and agents stays text: it becomes no terminal control
// sequence, no spreadsheet formula and no path. An export is never written
// over other content. The package measures, judges and scores nothing itself,
// and starts no goroutine.
package report
