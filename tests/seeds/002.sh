#@ tutorial 002
