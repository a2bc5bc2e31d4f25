#@ tutorial 001
