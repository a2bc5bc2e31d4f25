#@ tutorial 004
