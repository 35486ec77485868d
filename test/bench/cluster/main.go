package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"time"
)

// errBudget is the error of -check.
var errBudget = errors.New("a budget is not met")

type options struct {
	rounds   int
	short    bool
	scale    bool
	check    bool
	only     *regexp.Regexp
	out      string
	plots    string
	recorded string
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		err = run(ctx, o, os.Stdout)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 3, "measure each side so many `times`, by turns")
	flags.BoolVar(&o.short, "short", false, "measure little, in a minute or two, to see that all works; the figures mean little")
	flags.BoolVar(&o.scale, "scale", false, "measure what takes long, and nothing else")
	flags.BoolVar(&o.check, "check", false, "fail if a budget is not met")
	flags.StringVar(&o.out, "out", "", "write the results to this `file` as JSON, and the samples beside it")
	flags.StringVar(&o.plots, "plots", "", "write plots to this `folder`")
	flags.StringVar(&o.recorded, "compare", "", "fail if a ratio is over 25 % worse than in this `file`")
	only := flags.String("run", "", "measure the rows whose name matches this `pattern` only")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 1 {
		return o, fmt.Errorf("%d rounds are too few", o.rounds)
	}
	var err error
	o.only, err = regexp.Compile(*only)
	return o, err
}

// run measures the rows one after the other, and writes a table to w. What was measured before a failure is not lost.
func run(ctx context.Context, o options, w io.Writer) error {
	s, err := newSuite(ctx, o)
	if err != nil {
		return err
	}
	defer s.close()
	var report report
	failure := s.measure(ctx, o, &report)
	if o.plots != "" {
		failure = errors.Join(failure, draw(o.plots, s.pictures))
	}
	return errors.Join(failure, report.write(w), report.save(o), report.judge(o))
}

// measure measures the rows that are asked for, until one fails.
func (s *suite) measure(ctx context.Context, o options, report *report) error {
	for _, row := range rows {
		if row.scale != o.scale || !o.only.MatchString(row.name) {
			continue
		}
		start := time.Now()
		measured, err := row.measure(ctx, s)
		report.add(measured...)
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		s.log("%s took %s", row.name, time.Since(start).Round(time.Second))
	}
	return nil
}
