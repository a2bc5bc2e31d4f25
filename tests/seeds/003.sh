#@ tutorial 003
