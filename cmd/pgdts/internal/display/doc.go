// Package display turns statuses, reports and precheck results into text for people: a live picture on a terminal, one
// line per event elsewhere, tables. It computes nothing that a program would want to know; that is in the JSON.
package display
