package activities

import (
	"context"

	"github.com/pgdts/pgdts/activities/internal/pg"
)

// probe answers whether both servers let us in and answer a query.
func probe(ctx context.Context, s *session) (struct{}, error) {
	for _, server := range []*pg.Server{s.source, s.target} {
		if err := ping(ctx, server, s.Spec.ID.Session("probe", 0)); err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, nil
}

func ping(ctx context.Context, server *pg.Server, application string) error {
	conn, err := server.Connect(ctx, application)
	if err != nil {
		return err
	}
	defer pg.Close(conn)
	_, err = conn.Exec(ctx, "select 1")
	return server.Fault("probe", "", err)
}
